"""InfoNCE over the mesh: the same as a plain one, whatever the devices and blocks; what is masked; resuming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from crosstrainer_jax.input import pairs
from crosstrainer_jax.models.two_towers import TextTower, TowerConfig, TwoTowers, VideoTower
from crosstrainer_jax.training import contrastive, optimizer, sharding, stages
from crosstrainer_jax.training.contrastive import Labels, any_right_text, info_nce, own_text
from crosstrainer_jax.training.loop import fit
from crosstrainer_jax.training.step import init_state, make_step

ROWS, DIM = 24, 8


@pytest.fixture(scope='module')
def update():
  """Unit vectors and labels of an update whose last three rows only fill it up."""
  random = np.random.default_rng(0)
  clips, texts = (random.normal(size=(ROWS, DIM)).astype(np.float32) for _ in range(2))
  clips, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (clips, texts))
  right = random.integers(-1, 12, (ROWS, 3)).astype(np.int32)
  right[0] = 99  # belongs to no text of this update
  labels = Labels(
    np.arange(ROWS, dtype=np.int32), random.integers(0, 12, ROWS).astype(np.int32),
    random.integers(0, 15, ROWS).astype(np.int32), right, (np.arange(ROWS) < ROWS - 3).astype(np.float32),
  )  # fmt: skip
  return clips, texts, labels


def naive(clips, texts, scale, labels, relation):
  """The definition, with all logits at once, row by row."""
  count = int(labels.weight.sum())
  logits = scale * clips @ texts.T
  together = np.zeros((ROWS, ROWS), bool)
  compared = np.ones((ROWS, ROWS), bool)
  for i in range(ROWS):
    for j in range(ROWS):
      if relation is own_text:
        together[i, j] = i == j
        compared[i, j] = i == j or (labels.text[i] != labels.text[j] and labels.source[i] != labels.source[j])
      else:
        together[i, j] = labels.text[j] in labels.right[i]

  def one_way(logits, together, compared):
    logits, together, compared = (x[:count, :count] for x in (logits, together, compared))
    chances = jax.nn.log_softmax(logits, where=jnp.asarray(compared))
    losses = -jnp.where(together, chances, 0.0).sum(1) / np.maximum(together.sum(1), 1)
    return losses.sum() / together.any(1).sum()

  return (one_way(logits, together, compared) + one_way(logits.T, together.T, compared.T)) / 2


@pytest.mark.parametrize('relation', [own_text, any_right_text])
def test_loss_and_gradient_are_those_of_the_definition_on_any_mesh(update, relation):
  clips, texts, labels = update
  scale = jnp.float32(9.0)
  reference = jax.jit(jax.value_and_grad(lambda *x: naive(*x, labels, relation), argnums=(0, 1, 2)))
  expected, gradients = reference(clips, texts, scale)
  for shape, count, block in (((1, 1, 1), 1, ROWS), ((1, 8, 1), 8, 5), ((2, 2, 2), 8, 7)):
    mesh = sharding.make_mesh(shape, jax.devices()[:count])

    def loss(clips, texts, scale, mesh=mesh, block=block):
      return info_nce(clips, texts, scale, labels, relation, mesh, block)[0]

    found, slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(clips, texts, scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), slopes, gradients)


def test_large_scales_stay_finite(update):
  clips, texts, labels = update
  mesh = sharding.make_mesh((1, 8, 1))
  value, slopes = jax.jit(
    jax.value_and_grad(lambda c: info_nce(c, texts, jnp.float32(1e4), labels, own_text, mesh, 5)[0])
  )(clips)
  assert np.isfinite(value)
  assert np.isfinite(slopes).all()


def shapes_of(jaxpr):
  """The shapes of all that a program computes, those of its inner programs too."""
  for equation in jaxpr.eqns:
    yield from (variable.aval.shape for variable in equation.outvars)
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        inner = getattr(inner, 'jaxpr', inner)
        if hasattr(inner, 'eqns'):
          yield from shapes_of(inner)


def test_no_device_ever_holds_all_columns_of_the_logits(update):
  clips, texts, labels = update
  mesh = sharding.make_mesh((1, 8, 1))

  def widest(block):
    def loss(clips, texts):
      return info_nce(clips, texts, jnp.float32(9.0), labels, own_text, mesh, block)[0]

    program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(clips, texts)
    # logits of a device's 3 rows; vectors have 8 columns, which no block here has
    return max(shape[1] for shape in shapes_of(program.jaxpr) if len(shape) == 2 and shape[0] == ROWS // 8)

  assert widest(12) == 12
  assert widest(ROWS) == ROWS


def test_equal_words_and_the_same_take_are_no_negatives(update):
  clips, texts, labels = update
  mesh = sharding.make_mesh((1, 8, 1))
  distinct = labels._replace(text=np.arange(ROWS, dtype=np.int32), source=np.arange(ROWS, dtype=np.int32))
  for name in ('text', 'source'):
    same = getattr(distinct, name).copy()
    same[1] = same[0]
    masked = distinct._replace(**{name: same})
    loss = jax.jit(lambda t, labels=masked: per_row_zero(clips, t, labels, mesh))
    other = texts.copy()
    other[1] = -other[1]
    np.testing.assert_array_equal(loss(texts), loss(other))
  loss = jax.jit(lambda t: per_row_zero(clips, t, distinct, mesh))
  assert abs(float(loss(texts) - loss(other))) > 1e-3


def per_row_zero(clips, texts, labels, mesh):
  """The loss of row 0 alone, from clip to text: the others weigh nothing as rows, and stay as columns."""
  tiny = labels._replace(weight=np.full(ROWS, 1e-9, np.float32))
  tiny.weight[0] = 1.0

  def local(clips, texts, labels):
    gather = lambda x: jax.lax.all_gather(x, ('replica', 'fsdp'), tiled=True)  # noqa: E731
    loss, _, weight = contrastive._one_way(clips, gather(texts), labels, jax.tree.map(gather, labels), own_text, 5)
    return jax.lax.psum(jnp.where(weight > 0.5, loss, 0).sum(), ('replica', 'fsdp'))

  rows = jax.P(('replica', 'fsdp'))
  return jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, rows), out_specs=jax.P())(clips, texts, tiny)


def test_hits_count_the_rows_whose_nearest_column_is_right():
  clips = texts = np.eye(8, dtype=np.float32)
  numbers = np.arange(8, dtype=np.int32)
  labels = Labels(numbers, numbers, numbers, numbers[:, None], np.ones(8, np.float32))
  mesh = sharding.make_mesh((1, 8, 1))
  found = jax.jit(lambda t: info_nce(clips, t, jnp.float32(5.0), labels, own_text, mesh)[1])
  hits = found(texts)
  assert {name: float(value) for name, value in hits.items()} == {'clip_to_text': 1.0, 'text_to_clip': 1.0}
  assert float(found(np.roll(texts, 1, 0))['clip_to_text']) == 0.0


# --- Training


class Features:
  """Features of a clip in which its text can be seen."""

  def __call__(self, index):
    random = np.random.default_rng(index)
    return {'features': (np.eye(6)[index % 6] + 0.1 * random.normal(size=(1, 2, 6))).astype(np.float16)}


def towers_on(mesh):
  config = TowerConfig(width=16, layers=1, heads=2, dim=8)
  graph, params, *(rest,) = nnx.split(
    TwoTowers(VideoTower(config, 6, 2, nnx.Rngs(0)), TextTower(config, 8, 16, nnx.Rngs(1))), nnx.Param, ...
  )
  params = jax.device_put(jax.tree.map(np.asarray, params), sharding.replicated(mesh))
  return stages.Blueprint(graph, rest), params


def material():
  texts = pairs.Texts.of([[number] for number in range(6)], 16)
  shown = pairs.ShownClips(range(30), np.ones((30, 1, 2), bool), Features())
  return pairs.Material(range(30), texts, [[i % 6] for i in range(30)], np.arange(30), shown)


def trained(mesh, updates):
  """Parameters after plain descent: Adam would blow up rounding where there is no gradient, as in the keys' biases."""
  blueprint, params = towers_on(mesh)
  loss, frozen = contrastive.make_loss(blueprint, any_right_text, mesh, 4), blueprint.split(params)[1]
  step = make_step(loss, optax.scale(-1.0), mesh, frozen)
  contents = pairs.PairUpdates(material(), 8, 0, updates, sharding.data_shards(mesh))
  batches = stages.pipeline.Batches(contents)
  try:
    state = init_state(params, optax.scale(-1.0), 0)
    return fit('towers', step, state, batches, updates, lambda _: 0.1, mesh=mesh).params
  finally:
    batches.close()


@pytest.fixture(scope='module')
def settings():
  from crosstrainer_jax.configs import compact

  return compact.preset().contrastive.optimizer


def test_updates_are_the_same_on_one_and_on_eight_devices(one_device, eight_devices):
  one, eight = (jax.tree.leaves(trained(mesh, 4)) for mesh in (one_device, eight_devices))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, eight)


def test_a_stage_of_pairs_learns_is_resumed_and_read_back(settings, eight_devices, tmp_path):
  from crosstrainer_jax.configs import compact

  config = compact.preset().training
  config.optimizer, config.batch_size, config.save_every = settings, 8, 6
  blueprint, params = towers_on(eight_devices)
  loss = contrastive.make_loss(blueprint, any_right_text, eight_devices)
  frozen = blueprint.split(params)[1]
  step, calls = make_step(loss, optimizer.make_optimizer(settings), eight_devices, frozen), []

  def stage(folder, step):
    contents = pairs.PairUpdates(material(), 8, 0, 14, 8)
    return stages.train_updates(
      tmp_path / folder, 'towers', step, blueprint, params, contents, config, mesh=eight_devices, seed=0
    )

  def killed(*arguments):
    calls.append(None)
    if len(calls) == 9:
      raise KeyboardInterrupt
    losses.append(float((result := step(*arguments))[1]['loss']))
    return result

  losses: list[float] = []
  uninterrupted = stage('whole', step)
  with pytest.raises(KeyboardInterrupt):
    stage('killed', killed)
  again = stage('killed', step)
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(uninterrupted), jax.tree.leaves(again))
  assert losses[-1] < losses[0] - 0.05
  back = stages.finished(tmp_path / 'killed', 'towers', blueprint, params)
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(back), jax.tree.leaves(again))
