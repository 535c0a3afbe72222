import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from crosstrainer_jax.models.video_transformer import VideoTransformer, VideoTransformerConfig
from crosstrainer_jax.training import pretraining, sharding
from crosstrainer_jax.training.step import init_state, make_step

CONFIG = VideoTransformerConfig(
  image_size=16, fps=2, patch=2, channels=8, keypoints=3, values=2, width=16, layers=1, heads=2, feature_dim=16
)
WEIGHTS = np.ones(6, np.float32)
PIXELS = [2, 3, 4, 5]  # x and y of two joints


def motion(clips: int = 4) -> dict[str, np.ndarray]:
  """Two bright squares that move; the targets are where they are, and a measure of both."""
  random = np.random.default_rng(0)
  joints = random.uniform(0.1, 0.9, (clips, 1, 4, 2, 2)).astype(np.float32)
  frames = np.zeros((clips, 1, 4, 16, 16, 3), np.uint8)
  for place in np.ndindex(clips, 1, 4, 2):
    x, y = (joints[place] * 16).astype(int)
    frames[place[:3]][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2, place[3]] = 255
  flat = joints.reshape(clips, 1, 4, 4)
  return {'frames': frames, 'targets': np.concatenate([3 + 2 * flat[..., :1], 5 + 0 * flat[..., :1], flat], -1)}


@pytest.fixture(scope='module')
def pretrainer():
  @nnx.jit
  def build():
    encoder = VideoTransformer(CONFIG, nnx.Rngs(0))
    return pretraining.Pretrainer(encoder, CONFIG.frames_per_token, CONFIG.feature_dim, 6, nnx.Rngs(1))

  return nnx.split(build(), nnx.Param)


def make_loss(graph, seconds=(1, 2)):
  statistics = pretraining.target_statistics(motion(64)['targets'])
  return pretraining.make_loss(graph, *statistics, WEIGHTS, PIXELS, seconds, CONFIG.fps, 0.1)


def test_target_statistics():
  targets = np.random.default_rng(0).normal(3.0, 2.0, (50, 2, 8, 4)).astype(np.float32)
  targets[..., 1] = 7.0
  mean, deviation = pretraining.target_statistics(targets)
  np.testing.assert_allclose(mean, [3, 7, 3, 3], atol=0.25)
  np.testing.assert_allclose(deviation, [2, 1, 2, 2], atol=0.2)
  assert (mean.dtype, deviation.dtype) == (np.float32, np.float32)
  np.testing.assert_allclose(((targets - mean) / deviation)[..., 1], 0, atol=1e-5)


def test_the_loss_falls_on_clips_learnt_by_heart(pretrainer, one_device):
  graph, params = pretrainer
  tx = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))
  step = make_step(make_loss(graph), tx, one_device)
  state = init_state(jax.device_put(jax.tree.map(jnp.copy, params), sharding.replicated(one_device)), tx, 0)
  batch, losses = sharding.put_batch(motion(), one_device), []
  for _ in range(150):
    state, scalars = step(state, batch, np.float32(5e-3))
    losses.append({name: float(value) for name, value in scalars.items()})
  first, last = losses[0], losses[-1]
  assert last['loss'] < 0.4 * first['loss']
  assert last['unexplained_variance'] < 0.3 * first['unexplained_variance']
  assert last['joint_distance'] < 0.7 * first['joint_distance']


def test_each_update_draws_one_of_the_lengths(pretrainer):
  graph, params = pretrainer
  batch = motion()
  alone = [float(jax.jit(make_loss(graph, [n]))(params, (), batch, jax.random.key(0))[0]) for n in (1, 2)]
  loss = jax.jit(make_loss(graph))
  drawn = [float(loss(params, (), batch, jax.random.key(seed))[0]) for seed in range(12)]
  nearest = np.abs(np.subtract.outer(drawn, alone)).argmin(1)
  np.testing.assert_allclose(drawn, np.array(alone)[nearest], rtol=1e-4)
  assert set(nearest) == {0, 1}


def test_predicting_the_mean_leaves_all_variance_unexplained(pretrainer):
  graph, params = pretrainer
  params = jax.tree.map(jnp.copy, params)
  params['head']['linear'] = jax.tree.map(jnp.zeros_like, params['head']['linear'])
  batch = motion(64)
  _, weight, metrics = jax.jit(make_loss(graph, [2]))(params, (), batch, jax.random.key(0))
  value, count = metrics['unexplained_variance']
  # one of the six targets is constant
  assert float(value / count) == pytest.approx(5 / 6, rel=1e-3)
  assert float(weight) == 1


def test_localise_counts_the_joints_in_the_image():
  joints = jnp.array([[[0.1, 0.6], [1.2, 0.5], [0.9, 0.9]]])
  cells = jnp.array([2 * 4 + 0, 0, 3 * 4 + 3])
  sure = 50.0 * jax.nn.one_hot(cells, 16)[None]
  entropy, distance = pretraining.localise(sure, joints, joints)
  assert float(entropy) == pytest.approx(0, abs=1e-5)
  assert float(distance) == 0
  unsure, _ = pretraining.localise(0 * sure, joints, joints)
  assert float(unsure) == pytest.approx(np.log(16), rel=1e-5)
  # the joint outside does not count, wherever its map looks
  _, distance = pretraining.localise(sure, joints + jnp.array([[[0.1, -0.1], [9.0, 9.0], [0.0, 0.0]]]), joints)
  assert float(distance) == pytest.approx(0.1)
  nobody = pretraining.localise(sure, joints, joints + 5)
  assert [float(value) for value in nobody] == [0, 0]


def test_the_head_gives_targets_for_each_frame():
  head = pretraining.MotionHead(16, 2, 6, nnx.Rngs(0))
  assert head(jnp.zeros((3, 5, 16))).shape == (3, 5, 2, 6)


def test_targets_count_by_their_weight(pretrainer):
  graph, params = pretrainer
  statistics = pretraining.target_statistics(motion(64)['targets'])
  batch = {name: jnp.asarray(value) for name, value in motion().items()}

  def loss(weights, wanted):
    changed = batch | {'targets': batch['targets'].at[..., 0].set(wanted)}
    call = pretraining.make_loss(graph, *statistics, weights, PIXELS, [2], CONFIG.fps, 0.1)
    return float(jax.jit(call)(params, (), changed, jax.random.key(0))[0])

  without = np.array([0, 1, 1, 1, 1, 1], np.float32)
  assert loss(without, 3.0) == loss(without, 90.0)
  assert loss(WEIGHTS, 3.0) < loss(WEIGHTS, 90.0)
