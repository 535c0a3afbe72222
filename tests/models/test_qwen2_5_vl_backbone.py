"""CrossTrainer on Qwen2.5-VL, from a directory of the hub to answers: tower, merger and decoder each in its part."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from crosstrainer_jax import recipe
from crosstrainer_jax.inference.trained import read_trained
from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.models import qwen2_5_vl
from crosstrainer_jax.run import Run, open_run
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.inference import backbone
from tests.input import hub_tokenizers
from tests.models import hub_directories


@pytest.fixture(scope='module')
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return backbone.write_base(tmp_path_factory.mktemp('qwen'))


@pytest.fixture(scope='module')
def opened(base: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
  return open_run(backbone.config_on(base), tmp_path_factory.mktemp('run') / 'run', small_data)


def test_every_part_starts_as_it_is_in_the_directory(opened: Run, base: Path) -> None:
  tensors = Tensors(base)
  names = qwen2_5_vl.names_of(tensors)
  params = convert.flat(opened.initial)
  fc1 = tensors[f'{names.vision}merger.mlp.0.weight'].read()
  np.testing.assert_array_equal(params['mapper/fc1/kernel'][...], fc1.T)
  up = tensors[f'{names.text}layers.1.mlp.up_proj.weight'].read()
  np.testing.assert_array_equal(params['decoder/layers/mlp/up_proj/kernel'][...][1], up.T)
  assert opened.video_encoder.name == 'qwen2_5_vl'
  trained, _ = opened.blueprint.split(opened.initial)
  assert {path.partition('/')[0] for path in convert.flat(trained)} == {'mapper', 'decoder'}
  assert all('lora' in path or path.startswith('mapper/') for path in convert.flat(trained))


def test_a_view_is_a_picture_for_each_second(opened: Run) -> None:
  pictures = opened.text.pictures
  assert pictures is not None
  assert (pictures.each, pictures.grid.tokens) == (8, 8 * opened.seconds)
  prompt = opened.text.prompt(examples.ATTRIBUTES, 'soccer')
  assert prompt.count(pictures.before) == prompt.count(pictures.after) == opened.views
  assert prompt.count(opened.text.video_id) == opened.views * pictures.grid.tokens
  index = opened.split.train[0]
  features = opened.video(index)['features']
  valid = opened.valid([index])[0]
  assert features.shape == (opened.views, pictures.grid.tokens, opened.video_encoder.config.feature_dim)
  assert valid.shape == features.shape[:2]
  assert features[valid].any(-1).all()


def test_both_stages_train_and_the_run_answers(opened: Run, base: Path, capsys: pytest.CaptureFixture) -> None:
  recipe.train(opened)
  out = capsys.readouterr().out
  assert 'stage1' in out
  assert 'stage2' in out
  before, after = (
    convert.flat(opened.blueprint.split(params)[0]) for params in (opened.initial, opened.params('stage2'))
  )
  moved = {path: float(np.abs(after[path][...] - before[path][...]).max()) for path in after}
  assert all(moved[path] > 0 for path in moved if path.startswith('mapper/') or path.endswith('lora_b'))
  trained = read_trained(opened.workdir)
  assert trained.text.pictures == opened.text.pictures
  params = trained.load()[1]
  for path, leaf in convert.flat(params).items():
    np.testing.assert_array_equal(leaf[...], convert.flat(opened.params('stage2'))[path][...])
  indices = opened.split.test[:3]
  video, valid = opened.videos(indices)
  sports = [opened.clips[i].sport for i in indices]
  assessor = opened.assessor(opened.params('stage2'))
  lists, texts = assessor.two_passes(sports, video, valid, 8, 8)
  assert len(lists) == len(texts) == 3
  # Looking once and continuing is what reading the prompt as a whole gives.
  assert texts == assessor.feedback(sports, lists, video, valid, 8)
  assert json.loads((opened.workdir / 'config.json').read_text())['mapper']['weights'] == str(base)


def test_seconds_that_are_not_seen_keep_the_times_of_the_others(opened: Run) -> None:
  text = opened.text
  assert text.pictures is not None
  grid = text.pictures.grid
  prompt = text.prompt(examples.ATTRIBUTES, 'soccer')
  whole = np.ones((opened.views, grid.tokens), bool)
  valid = whole.copy()
  valid[0, :8] = False
  valid[1] = False

  def places(valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids, slots = examples.prompt_ids(prompt, valid.reshape(-1), text.video_id, text.pictures)
    return ids, examples.positions(ids, slots, text.video_id, text.pictures)

  ids, found = places(valid)
  all_ids, all_found = places(whole)
  start = int(np.flatnonzero(all_ids == text.video_id)[0])
  np.testing.assert_array_equal(found[start : start + grid.tokens - 8], all_found[start + 8 : start + grid.tokens])
  # the second view is gone, with what stood around it
  assert len(all_ids) - len(ids) == 8 + grid.tokens + 2
  assert (np.diff(np.flatnonzero(ids == text.pictures.before)) > 1).all()
  assert (np.diff(found[ids != text.video_id].max(-1)) > 0).all()


def test_an_update_on_packed_rows_has_the_loss_of_clips_alone(opened: Run) -> None:
  """Packing moves neither positions nor what a clip sees."""
  stage = pipeline.Stage(
    opened.clips, opened.split.train[:8], [pipeline.Task(examples.FEEDBACK, 1)], opened.text, 0.0, opened.seconds
  )
  loss = jax.jit(stages.make_loss(opened.blueprint, deterministic=True))
  trained, frozen = opened.blueprint.split(opened.initial)
  found = []
  for row_tokens in (0, 1024):
    batch = pipeline.Updates(stage, opened.video, 8, 0, 1, 8, row_tokens)(0)
    assert batch['positions'].shape == (*batch['tokens'].shape, 3)
    total, weight, _ = loss(trained, frozen, sharding.put_batch(batch, opened.mesh), jax.random.key(0))
    found.append(float(total / weight))
  assert found[0] > 1.0
  assert found[0] == pytest.approx(found[1], abs=2e-5)


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (('mapper.whiten=true',), 'mapper.whiten must be false'),
    (
      ('encoder.weights=shipped', 'encoder.size=0', 'encoder.fps=0'),
      'its merger makes 32 numbers of 64, but f_v gives',
    ),
  ],
)
def test_parts_that_do_not_belong_together(
  overrides: tuple[str, ...], message: str, base: Path, small_data: Path, tmp_path: Path
) -> None:
  with pytest.raises(ValueError, match=message):
    open_run(backbone.config_on(base, *overrides), tmp_path / 'run', small_data)


def test_another_decoder_cannot_read_its_pictures(base: Path, small_data: Path, tmp_path: Path) -> None:
  hub_tokenizers.write(tmp_path / 'llama', 'llama3')
  other = hub_directories.write_llama(tmp_path / 'llama')
  config = backbone.config_on(base, f'decoder.weights={other}', 'mapper.weights=')
  with pytest.raises(ValueError, match='qwen2_5_vl makes 8 tokens of a second, each at its place in a picture'):
    open_run(config, tmp_path / 'run', small_data)
