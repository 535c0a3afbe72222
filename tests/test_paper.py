"""The paper's preset: its counts from shapes alone, and a whole run of it on small models of the hub."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import crosstrainer_jax
from crosstrainer_jax import datasets, recipe, run_layout, settings
from crosstrainer_jax.input import pipeline
from crosstrainer_jax.input.examples import FEEDBACK
from crosstrainer_jax.models import pretrained
from crosstrainer_jax.run import open_run
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.optimizer import schedule as make_schedule
from crosstrainer_jax.weights.convert import flat
from tests.input import hub_tokenizers
from tests.models import hub_directories
from tests.models.test_llama_family import LLAMA_31_8B

SHARDINGS = pathlib.Path(__file__).parent / 'golden' / 'paper_shardings.txt'


def paper(*overrides):
  return settings.load_config('configs/cross_sport.py:paper', overrides)


def test_what_the_paper_says():
  config = paper()
  assert config.decoder.weights == 'meta-llama/Llama-3.1-8B-Instruct'
  assert config.lora.to_dict() == {
    'rank': 128, 'alpha': 256.0, 'dropout': 0.05, 'targets': '_proj$', 'weights': '',
  }  # fmt: skip
  optimizer = config.training.optimizer
  rates = {name: optimizer.learning_rate * factor for name, factor in optimizer.learning_rate_rules}
  assert rates == {'^mapper/': pytest.approx(2e-3)}
  assert (optimizer.name, optimizer.learning_rate) == ('adamw', 2e-4)
  # a cosine to nothing after a warm-up of 3 %
  schedule = make_schedule(optimizer, 1000)
  assert float(schedule(14)) == pytest.approx(1e-4)
  assert float(schedule(29)) == pytest.approx(2e-4)
  assert float(schedule(514)) == pytest.approx(1e-4, rel=1e-3)
  assert float(schedule(999)) == pytest.approx(0, abs=1e-9)
  assert (config.stage1.epochs, config.stage2.epochs, config.training.batch_size) == (2.0, 2.0, 128)


def test_counts_from_shapes_alone(tmp_path):
  """Nothing is allocated: a directory with its config.json is all there is."""
  (tmp_path / 'config.json').write_text(json.dumps(LLAMA_31_8B))
  config = paper(f'decoder.weights={tmp_path}')
  state = nnx.state(nnx.eval_shape(stages.architecture(config, 0, 4096, 128_256)), nnx.Param)
  counts = dict.fromkeys(('mapper', 'base', 'adapters'), 0)
  blueprint = stages.Blueprint(None, None, tuple(config.training.frozen))
  trained, frozen = blueprint.split(state)
  for path, leaf in flat(state).items():
    kind = 'mapper' if path.startswith('mapper/') else 'adapters' if 'lora_' in path else 'base'
    counts[kind] += math.prod(leaf.shape)
    assert leaf.dtype == (jnp.bfloat16 if kind == 'base' else jnp.float32), path
    assert (path in flat(frozen)) == (kind == 'base') == (path not in flat(trained)), path
  assert counts == {'mapper': 33_562_624, 'base': 8_030_261_248, 'adapters': 335_544_320}


def test_where_every_parameter_lies(tmp_path, request):
  """A change shows in review. After a wanted one: pytest tests/test_paper.py --update-goldens."""
  (tmp_path / 'config.json').write_text(json.dumps(LLAMA_31_8B))
  config = paper(f'decoder.weights={tmp_path}')
  state = nnx.state(nnx.eval_shape(stages.architecture(config, 0, 4096, 128_256)), nnx.Param)
  lines = []
  for shape in ((1, 8, 1), (2, 64, 4)):
    mesh = jax.sharding.AbstractMesh(shape, sharding.MESH_AXES)
    places, share = flat(sharding.state_shardings(state, mesh)), sharding.unsplit_share(state, mesh)
    assert share < 0.02
    lines.append(f'# replica, fsdp, tensor: {shape}; {share:.3%} of all numbers are on every chip')
    for path, leaf in sorted(flat(state).items()):
      lines.append(f'{path:60} {leaf.dtype!s:9} {leaf.shape!s:20} {tuple(places[path].get_value().spec)}')
  got = '\n'.join(lines) + '\n'
  if request.config.getoption('--update-goldens'):
    SHARDINGS.write_text(got)
  assert got == SHARDINGS.read_text()


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
  root = tmp_path_factory.mktemp('hub')
  hub_tokenizers.write(root / 'llama', 'llama3')
  hub_directories.write_llama(root / 'llama', jnp.bfloat16)
  return {'decoder.weights': root / 'llama', 'encoder.weights': hub_directories.write_clip(root / 'clip')}


@pytest.fixture(scope='module')
def config(hub):
  """The preset with small models; data and lengths are small as well."""
  changes = {
    **hub, 'encoder.fps': 4, 'encoder.dtype': 'float32', 'decoder.max_position': 1024, 'decoder.dtype': 'float32',
    'training.row_tokens': 1024,
    'lora.rank': 4, 'lora.dropout': 0.0, 'data.skillsim.train_clips': 12, 'data.skillsim.test_clips': 4,
    'training.batch_size': 8, 'stage1.epochs': 1.0, 'stage2.epochs': 1.0, 'stage2.folds': 0, 'stage2.true_ratio': 1.0,
    'probe.steps': 5, 'assess.samples': 2, 'eval.batch_size': 8, 'eval.max_attribute_tokens': 6,
    'eval.max_feedback_tokens': 6, 'prompt.k': 2, 'stage2.attributes': 0, 'eval.rows': (),
  }  # fmt: skip
  return paper(*(f'{name}={value}' for name, value in changes.items()))


@pytest.fixture(scope='module')
def data(config, tmp_path_factory):
  return datasets.prepare(config.data, tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def opened(config, data, tmp_path_factory):
  return open_run(config, tmp_path_factory.mktemp('paper'), data)


def test_only_what_trains_is_kept_and_the_base_stays(opened, tmp_path):
  recipe.train(opened)
  trained = opened.params(run_layout.STAGE2)
  before, after = flat(opened.initial), flat(trained)
  saved = json.loads((opened.workdir / run_layout.STAGE2 / 'done.json').read_text())
  assert saved['updates'] >= 4
  for path in after:
    same = np.array_equal(before[path][...], after[path][...])
    assert same == (path.startswith('decoder/') and 'lora_' not in path), path
  size = sum(
    file.stat().st_size for file in (opened.workdir / run_layout.STAGE2 / 'params').rglob('*') if file.is_file()
  )
  base = sum(leaf[...].nbytes for path, leaf in before.items() if path.startswith('decoder/') and 'lora_' not in path)
  whole = sum(leaf[...].nbytes for leaf in after.values())
  assert size < 2 * (whole - base) + 200_000
  coach = crosstrainer_jax.load(opened.workdir)
  index = opened.split.test[0]
  video, valid = opened.videos([index])
  answers = [
    assessor.attributes([opened.clips[index].sport], video, valid, 6)
    for assessor in (coach.assessor(8), opened.assessor(trained))
  ]
  assert answers[0] == answers[1]


def test_features_give_the_loss_of_frames(config, opened, data, tmp_path):
  """f_v is frozen in both: what is cached is what would be computed."""
  changed = config.copy_and_resolve_references().unlock()
  changed.encoder.source = 'frames'
  changed.training.frozen = (*config.training.frozen, '^encoder/')
  frames = open_run(changed, tmp_path, data)
  losses = []
  for run in (opened, frames):
    stage = pipeline.Stage(run.clips, run.split.train, [pipeline.Task(FEEDBACK, 1)], run.text, 0.0, run.seconds)
    trained, frozen = run.blueprint.split(run.initial)
    loss = jax.jit(stages.make_loss(run.blueprint, deterministic=True))
    batch = sharding.put_batch(pipeline.Updates(stage, run.video, 8, 0, 1)(0), run.mesh)
    total, weight, _ = loss(trained, frozen, batch, jax.random.key(0))
    losses.append(float(total / weight))
  assert losses[0] == pytest.approx(losses[1], abs=1e-5)
  assert losses[0] > 1


def test_another_base_is_another_run(config, opened, hub, data, tmp_path):
  assert pretrained.find(config).fingerprint == pretrained.find(config).fingerprint
  other = hub_directories.write_llama(tmp_path / 'other', jnp.bfloat16, hidden_size=64)
  assert pretrained.find(paper(f'decoder.weights={other}')).fingerprint != pretrained.find(config).fingerprint
  record = json.loads((opened.workdir / 'environment.json').read_text())
  assert record['decoder_fingerprint'] == pretrained.find(config).fingerprint


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (['decoder.weights='], 'decoder.weights is empty'),
    (['training.frozen=()'], 'lora.rank is above 0, but L trains as well'),
    (['lora.dropout=1.0'], 'lora: dropout'),
    (["training.frozen=('(',)"], 'is no regular expression'),
    (['decoder.hidden_size=4'], 'unknown setting'),
  ],
)
def test_what_does_not_fit_is_refused(overrides, message):
  with pytest.raises(settings.SettingsError, match=message):
    paper(*overrides)
