"""What is frozen costs what it should: no optimiser state, no place in checkpoints, no change, no weight gradient; and
an update costs each of several devices its share."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from crosstrainer_jax.models import cross_entropy
from crosstrainer_jax.training import optimizer, sharding, stages
from crosstrainer_jax.training.step import init_state
from crosstrainer_jax.weights.convert import flat

# The paper's: of L the adapters train, beside f_m.
FROZEN = ('^decoder/(?!.*lora_)',)
RANK, LAYERS = 8, 2


@pytest.fixture(scope='module')
def sizes(config):
  """A decoder wide enough that an update is matrix products and little else."""
  wide = config.copy_and_resolve_references().unlock()
  wide.decoder.update(
    hidden_size=128, intermediate_size=384, num_layers=LAYERS, num_heads=4, num_kv_heads=2, head_dim=32, unroll=True
  )
  wide.lora.dropout = 0.0
  # Muon multiplies matrices of its own
  wide.training.optimizer.update(name='adamw', learning_rate=0.01, warmup_fraction=0.0)
  return wide


@dataclasses.dataclass
class Model:
  config: ml_collections.ConfigDict
  blueprint: stages.Blueprint
  params: nnx.State
  update: Any  # a functools.partial, whose function can be compiled without being run


@pytest.fixture(scope='module')
def make(sizes, world, one_device):
  """The model with adapters and L frozen, or without adapters and all of it training; `settings` of its decoder."""

  def make(adapted: bool, mesh: jax.sharding.Mesh = one_device, **settings) -> Model:
    config = sizes.copy_and_resolve_references()
    config.decoder.update(settings)
    config.lora.rank = RANK if adapted else 0
    config.training.frozen = FROZEN if adapted else ()
    shape = (len(world.words), world.feature_dim, world.video_id)
    blueprint, params = stages.build(config, *shape, 0, mesh)
    return Model(config, blueprint, params, stages.make_update(blueprint, params, config.training, mesh))

  return make


@pytest.fixture(scope='module')
def adapted(make):
  return make(True)


@pytest.fixture(scope='module')
def stage(adapted, world, one_device, tmp_path_factory):
  """The folder of a stage of four updates, and the parameters that it gave."""
  directory = tmp_path_factory.mktemp('run') / 'stage1'
  trained = stages.train_stage(
    directory, 'stage1', adapted.update, adapted.blueprint, adapted.params, world.stage(), world.video,
    adapted.config.training, 4, mesh=one_device, seed=0,
  )  # fmt: skip
  return directory, trained


def frozen_paths(params: nnx.State) -> set[str]:
  return {path for path in flat(params) if re.search(FROZEN[0], path)}


def test_the_optimizer_keeps_nothing_of_what_is_frozen(adapted):
  trained, frozen = adapted.blueprint.split(adapted.params)
  assert set(flat(frozen)) == frozen_paths(adapted.params)
  assert {path.split('/')[-1] for path in flat(trained['decoder'])} == {'lora_a', 'lora_b'}
  state = init_state(trained, optimizer.make_optimizer(adapted.config.training.optimizer), 0)
  moments = sorted(leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
  # Adam's two
  assert moments == sorted(2 * [leaf.shape for leaf in jax.tree.leaves(trained)])


def test_checkpoints_hold_only_what_trains(adapted, stage):
  directory, _ = stage
  trained, frozen = adapted.blueprint.split(adapted.params)
  wanted = {f'{path}/value': leaf.shape for path, leaf in flat(trained).items()}
  with ocp.StandardCheckpointer() as reader:
    saved = reader.metadata(directory / 'params').item_metadata.tree
  assert shapes(saved) == wanted
  nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(frozen))
  held = {folder: sum(file.stat().st_size for file in (directory / folder).rglob('*') if file.is_file())
          for folder in ('params', 'checkpoints')}  # fmt: skip
  assert max(held.values()) < nbytes


def shapes(tree: dict, prefix: str = '') -> dict[str, tuple[int, ...]]:
  """Of the arrays of a nested dict, by their path."""
  found: dict[str, tuple[int, ...]] = {}
  for name, value in tree.items():
    found |= shapes(value, f'{prefix}{name}/') if isinstance(value, dict) else {f'{prefix}{name}': tuple(value.shape)}
  return found


def test_updates_change_adapters_and_mapper_and_nothing_else(adapted, stage):
  before, after = flat(adapted.params), flat(stage[1])
  same = {path for path in before if np.array_equal(before[path], after[path])}
  assert same == frozen_paths(adapted.params) | {'mapper/whitening/mean', 'mapper/whitening/matrix'}


# --- What is computed


def forward_flops(model: Model, batch: dict[str, np.ndarray], layers: int) -> dict[str, float]:
  """FLOPs of the matrix products of a forward pass, by hand.

  {'linear': layers of L, but for 'last', the last product of each; 'attention': scores and mixtures; 'head';
  'adapters', but for 'last adapter'; 'mapper', but for 'first', whose input needs no gradient}
  """
  decoder, (rows, length) = model.blueprint.merge(model.params).decoder.config, batch['tokens'].shape
  embed, mlp = decoder.hidden_size, decoder.intermediate_size
  heads, kv_heads = decoder.num_heads * decoder.head_dim, decoder.num_kv_heads * decoder.head_dim
  linears = [(embed, heads), (embed, kv_heads), (embed, kv_heads), (heads, embed), (embed, mlp), (embed, mlp)]
  tokens = layers * 2 * rows * length
  video = 2 * np.prod(batch['features'].shape[:4])
  return {
    'linear': tokens * sum(inputs * outputs for inputs, outputs in linears),
    'last': tokens * mlp * embed,
    'attention': tokens * 2 * length * heads,
    'head': 2 * batch['target_slots'].size * embed * decoder.vocab_size,
    'adapters': tokens * RANK * (sum(inputs + outputs for inputs, outputs in linears) + mlp),
    'last adapter': tokens * RANK * embed,
    'mapper': video * embed**2,
    'first': video * batch['features'].shape[-1] * embed,
  }


def expected_flops(model: Model, batch: dict[str, np.ndarray], layers: int) -> float:
  """Of an update: the backward pass of a product costs as much as the forward pass for each factor with a gradient."""
  adapted = model.config.lora.rank > 0
  with_frozen, with_adapter = (2, 3) if adapted else (3, 0)
  factors = {
    'linear': with_frozen, 'last': with_frozen, 'attention': 3, 'head': with_frozen, 'adapters': with_adapter,
    'last adapter': with_adapter, 'mapper': 3, 'first': 2,
  }  # fmt: skip
  if model.config.decoder.remat == 'full':
    # The layers once more; only what their last products give is not needed again.
    factors |= {name: factors[name] + 1 for name in ('linear', 'attention', *(['adapters'] if adapted else []))}
  return sum(factors[name] * flops for name, flops in forward_flops(model, batch, layers).items())


def compiled(model: Model, batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> jax.stages.Compiled:
  """The update. XLA counts the body of a loop once."""
  trained, frozen = model.blueprint.split(model.params)
  state = init_state(trained, optimizer.make_optimizer(model.config.training.optimizer), 0)
  placed = sharding.put_batch(batch, mesh)
  return model.update.func.lower(frozen, state, placed, jnp.float32(0.0)).compile()


@pytest.mark.parametrize(('unroll', 'remat'), [(True, 'none'), (False, 'full')], ids=['unrolled', 'scanned, remat'])
@pytest.mark.parametrize('adapted', [False, True], ids=['all trains', 'adapters train'])
def test_no_gradient_of_frozen_weights_is_computed(
  make, first_batch, one_device, adapted, unroll, remat, record_property
):
  """Gradients of the frozen weights would add a quarter or more. What is no matrix product is counted beside them."""
  model = make(adapted, unroll=unroll, remat=remat)
  expected = expected_flops(model, first_batch, LAYERS if unroll else 1)
  ratio = compiled(model, first_batch, one_device).cost_analysis()['flops'] / expected
  record_property('compiled_by_analytic', f'{ratio:.3f}')
  assert 1.0 <= ratio < 1.07


def test_each_of_eight_devices_computes_an_eighth(make, first_batch, one_device, eight_devices, record_property):
  """Rows are split, activations with them: where they follow the parameters instead, each device computes all rows."""
  batch = {name: np.repeat(value, 16, axis=0) for name, value in first_batch.items()}
  updates = {
    mesh: compiled(make(True, mesh, unroll=False, remat='full'), batch, mesh) for mesh in (one_device, eight_devices)
  }
  flops = [update.cost_analysis()['flops'] for update in updates.values()]
  memory = [update.memory_analysis().temp_size_in_bytes for update in updates.values()]
  record_property('flops', f'{flops[1] / flops[0]:.3f}')
  record_property('memory', f'{memory[1] / memory[0]:.3f}')
  assert flops[1] < 1.1 * flops[0] / 8
  assert memory[1] < 1.5 * memory[0] / 8


def test_the_loss_gathers_neither_rows_nor_the_head_again_and_again(make, first_batch, eight_devices, monkeypatch):
  """The head is gathered once, before the loop over pieces; probabilities stay where their rows are."""
  monkeypatch.setattr(cross_entropy, 'PIECE_BYTES', 2**12)
  model = make(True, eight_devices, unroll=False, tie_embeddings=False)
  vocab = model.blueprint.merge(model.params).decoder.config.vocab_size
  text = compiled(model, first_batch, eight_devices).as_text()
  computations = re.split(r'\n(?=\S)', text)
  gathers = [
    (number, shape)
    for number, computation in enumerate(computations)
    for shape in re.findall(r'= \w+\[([\d,]*)\][^=]* all-gather(?:-start)?\(', computation)
    if str(vocab) in shape.split(',')
  ]
  assert {shape for _, shape in gathers} == {f'128,{vocab}'}
  entry = next(number for number, computation in enumerate(computations) if 'ENTRY' in computation)
  assert all(number == entry for number, _ in gathers)
