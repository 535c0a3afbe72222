"""EgoVLPv2's video tower against its reference in PyTorch, through a checkpoint as the public code saves it."""

import datetime
import importlib.util
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import egovlp
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')


def golden() -> ModuleType:
  """`tests/golden/make_egovlp.py`."""
  path = pathlib.Path(__file__).parents[1] / 'golden' / 'make_egovlp.py'
  spec = importlib.util.spec_from_file_location('make_egovlp', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


make_egovlp = golden()
reference = make_egovlp.load_reference()

TOLERANCE = 1e-4
SIZES = make_egovlp.SIZES
# At this scale of the residual stream its variance is near 1e-4, so that the eps of every norm shows.
QUIET = 0.005
FRAMES = make_egovlp.pictures(SIZES, count=3, seed=2)
PIXELS = make_egovlp.normalised(FRAMES)  # [N, F, 3, H, W], as the reference takes them
DIRECTION = np.random.default_rng(3).standard_normal((len(FRAMES), SIZES['projection'])).astype(np.float32)


class ConfigParser:
  """The class of the public code that its checkpoints hold an instance of; not known where they are read."""

  def __init__(self) -> None:
    self.save_dir = pathlib.Path('results') / 'models'
    self.started = datetime.datetime(2023, 7, 11)
    self.config = {'name': 'EgoClip', 'n_gpu': 8}


def weights(stream: float = 1.0, **sizes: int) -> dict[str, Any]:
  return {name: torch.tensor(value) for name, value in make_egovlp.weights(SIZES | sizes, stream=stream).items()}


def published(tensors: dict[str, Any]) -> dict[str, Any]:
  """With what a published checkpoint holds beside the tower: text, fusion in the last half of the blocks, losses."""
  width, generator = SIZES['width'], torch.Generator().manual_seed(0)
  vectors = ['cls_token', 'norm.weight', 'norm.bias', 'itm_score.fc.bias', 'mlm_score.bias', 'txt_proj.2.bias']
  matrices = ['txt_proj.0.weight', 'txt_proj.2.weight', 'text_model.encoder.layer.0.attention.self.query.weight']
  matrices += [f'cross_modal_{part}.weight' for part in ('text_transform', 'video_transform', 'video_pooler.dense')]
  matrices += ['text_model.encoder.layer.1.crossattention_t2i.self.key.weight', 'mlm_score.decoder.weight']
  vectors += ['text_model.embeddings.position_ids', 'text_model.encoder.layer.1.alpha_t2i']
  for layer in range(SIZES['layers'] // 2, SIZES['layers']):
    attention = f'video_model.blocks.{layer}.attn'
    linears = [f'{attention}.{name}' for name in ('qkv_i2t', 'qkv_text_i2t', 'proj_i2t')]
    matrices += [f'{name}.weight' for name in linears]
    vectors += [f'{name}.bias' for name in linears]
    vectors += [f'{attention}.alpha_i2t', f'{attention}.norm_i2t_i.weight', f'{attention}.norm_i2t_i.bias']
  more = {name: torch.randn(width, width, generator=generator) for name in matrices}
  return tensors | more | {name: torch.randn(width, generator=generator) for name in vectors}


def save(path: pathlib.Path, tensors: dict[str, Any]) -> pathlib.Path:
  """As the public code's trainer does, from several devices, with its optimizer and its config."""
  some = torch.nn.Parameter(tensors['video_model.cls_token'].clone())
  optimizer = torch.optim.AdamW([some])
  some.sum().backward()
  optimizer.step()
  state = {
    'arch': 'FrozenInTime',
    'epoch': 9,
    'state_dict': {f'module.{name}': tensor for name, tensor in published(tensors).items()},
    'optimizer': optimizer.state_dict(),
    'monitor_best': 57.2,
    'config': ConfigParser(),
  }
  torch.save(state, path)
  return path


def load(path: pathlib.Path, **settings: Any) -> egovlp.EgoVLPv2:
  tensors = Tensors(path)
  config = egovlp.EgoVLPv2Config.from_checkpoint(tensors, **({'heads': SIZES['heads']} | settings))
  graph, abstract = nnx.split(nnx.eval_shape(lambda: egovlp.EgoVLPv2(config, nnx.Rngs(0))), nnx.Param)
  prefix = egovlp.find_prefix(tensors)
  return nnx.merge(graph, convert.load(tensors, egovlp.sources(config), abstract, egovlp.IGNORED, prefix))


def build(tensors: dict[str, Any], **sizes: Any) -> Any:
  model = reference.EgoVLP(**(SIZES | sizes)).eval()
  model.load_state_dict(tensors)
  return model


def expected(model: Any, pixels: np.ndarray = PIXELS) -> tuple[np.ndarray, np.ndarray]:
  """Feature, and the states after the embedding and after every block, of the reference."""
  with torch.no_grad():
    feature, states = model(torch.tensor(pixels))
  return feature.numpy(), torch.stack(states).numpy()


@nnx.jit
def forward(model: egovlp.EgoVLPv2, pixels: jax.Array, valid: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
  """As `expected`, of the port."""
  _, states = model.video(pixels, valid)
  return model.encode(pixels, valid), jnp.concatenate([model.video.embed(pixels)[None], states])


def found(model: egovlp.EgoVLPv2, pixels: np.ndarray = PIXELS, valid: np.ndarray | None = None) -> list[np.ndarray]:
  return [np.asarray(x) for x in forward(model, jnp.asarray(np.moveaxis(pixels, 2, -1)), valid)]


def difference(a: np.ndarray, b: np.ndarray) -> float:
  assert a.shape == b.shape
  return float(np.abs(a - b).max())


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return save(tmp_path_factory.mktemp('egovlp') / 'EgoVLPv2.pth', weights())


@pytest.fixture(scope='module')
def port(checkpoint: pathlib.Path) -> egovlp.EgoVLPv2:
  return load(checkpoint)


def test_sizes_are_read_from_the_checkpoint(port: egovlp.EgoVLPv2) -> None:
  c = port.config
  assert (c.width, c.layers, c.heads, c.patch, c.image_size) == (32, 3, 2, 4, 16)
  assert (c.num_frames, c.projection_dim, c.feature_dim, c.fps, c.frames_per_token) == (4, 24, 24, 4, 4)


def test_defaults_are_the_published_sizes() -> None:
  """The same parameters as the reference's defaults, tensor by tensor."""
  with torch.device('meta'):
    there = {name: tuple(tensor.shape) for name, tensor in reference.EgoVLP().state_dict().items()}
  config = egovlp.EgoVLPv2Config()
  state = nnx.state(nnx.eval_shape(lambda: egovlp.EgoVLPv2(config, nnx.Rngs(0))), nnx.Param)
  for path, variable in convert.flat(state).items():
    source = egovlp.sources(config)[path]
    for name in source.names(config.layers):
      shape = there.pop(name)
      one = variable.shape[1:] if '{}' in source.name else variable.shape
      assert np.prod(shape) == np.prod(one), path
  assert not there


def test_features_and_states(port: egovlp.EgoVLPv2, record_property: Callable[[str, object], None]) -> None:
  feature, states = expected(build(weights()))
  assert feature.std() > 1
  # the videos differ by far more than the tolerance, in every feature
  assert np.abs(feature - feature.mean(0)).max(0).min() > 100 * TOLERANCE
  our_feature, our_states = found(port)
  record_property('max_abs_difference', f'{difference(our_feature, feature):.1e}')
  assert difference(our_feature, feature) <= TOLERANCE
  for layer, (ours, theirs) in enumerate(zip(our_states, states, strict=True)):
    assert difference(ours, theirs) <= TOLERANCE, layer


def test_from_frames(port: egovlp.EgoVLPv2) -> None:
  """Two seconds of frames of the size of the picture: normalised inside, second by second."""
  feature, _ = expected(build(weights()))
  frames = FRAMES[:2].reshape(1, 2 * SIZES['frames'], *FRAMES.shape[2:])
  ours = np.asarray(port(jnp.asarray(frames)))
  assert ours.dtype == np.float32
  assert difference(ours, feature[None, :2]) <= TOLERANCE


def test_gradients(port: egovlp.EgoVLPv2, record_property: Callable[[str, object], None]) -> None:
  """Of all parameters, of a random direction of the features."""
  model = build(weights())
  (model(torch.tensor(PIXELS))[0] * torch.tensor(DIRECTION)).sum().backward()
  theirs = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}

  @nnx.jit
  def gradient(port: egovlp.EgoVLPv2, pixels: jax.Array) -> nnx.State:
    return nnx.grad(lambda port: jnp.sum(port.encode(pixels) * DIRECTION))(port)

  ours = convert.flat(gradient(port, jnp.asarray(np.moveaxis(PIXELS, 2, -1))))
  sources = egovlp.sources(port.config)
  assert set(ours) == set(sources)
  most, compared = 0.0, set()
  for path, variable in ours.items():
    layers = []
    for name in sources[path].names(SIZES['layers']):
      compared.add(name)
      wanted = theirs[name].transpose(sources[path].axes or range(theirs[name].ndim))
      layers.append(wanted)
    wanted = np.stack(layers) if '{}' in sources[path].name else layers[0].reshape(variable.shape)
    value = np.asarray(variable[...])
    assert np.abs(wanted).max() > 1000 * TOLERANCE, path
    most = max(most, difference(value, wanted))
    assert difference(value, wanted) <= TOLERANCE, path
  assert compared == set(theirs)
  record_property('max_abs_difference', f'{most:.1e}')


def test_a_quiet_stream(tmp_path: pathlib.Path, record_property: Callable[[str, object], None]) -> None:
  """Where the variance is near the eps of the norms, the port agrees, and a wrong eps of any norm would show."""
  tensors = weights(QUIET)
  feature, _ = expected(build(tensors))
  ours, _ = found(load(save(tmp_path / 'quiet.pth', tensors)))
  record_property('max_abs_difference', f'{difference(ours, feature):.1e}')
  assert difference(ours, feature) <= TOLERANCE
  for norm in ('norm1', 'norm2', 'norm3', 'video_model.norm', ''):
    model = build(tensors)
    for name, module in model.named_modules():
      if isinstance(module, torch.nn.LayerNorm) and name.endswith(norm):
        module.eps = 1e-6
    assert difference(ours, expected(model)[0]) >= 10 * TOLERANCE, norm


# What the reference is not: each of these must be told apart from it.


class BothResiduals(reference.Block):
  def forward(self, x, over_time, over_space):
    t = self.timeattn(self.norm3(x), over_time)
    x = x + t + self.attn(self.norm1(x + t), over_space)
    return x + self.mlp(self.norm2(x))


class SpaceFirst(reference.Block):
  def forward(self, x, over_time, over_space):
    s = self.attn(self.norm1(x), over_space)
    x = x + self.timeattn(self.norm3(x + s), over_time)
    return x + self.mlp(self.norm2(x))


class GroupsSwapped(reference.Block):
  def forward(self, x, over_time, over_space):
    return super().forward(x, over_space, over_time)


class NormsSwapped(reference.Block):
  def forward(self, x, over_time, over_space):
    t = self.timeattn(self.norm1(x), over_time)
    x = x + self.attn(self.norm3(x + t), over_space)
    return x + self.mlp(self.norm2(x))


class ClsInTime(reference.VideoModel):
  """CLS gets the first temporal embedding."""

  def embed(self, pictures):
    x = super().embed(pictures)
    return torch.cat([x[:, :1] + self.temporal_embed[:, :1], x[:, 1:]], 1)


class ClsWithoutPosition(reference.VideoModel):
  def embed(self, pictures):
    x = super().embed(pictures)
    return torch.cat([x[:, :1] - self.pos_embed[:, :1], x[:, 1:]], 1)


class PositionMajor(reference.VideoModel):
  """Groups of tokens that are numbered position after position."""

  def token(self, frame, position):
    return 1 + position * self.frames + frame


class ClsInItsOwnGroup(reference.DividedAttention):
  """CLS sees itself alone, as in attention that is divided for it too."""

  def forward(self, x, groups):
    mixed = super().forward(x, groups)
    alone = self.proj(self.qkv(x[:, :1]).split(x.shape[-1], -1)[2])
    return torch.cat([alone, mixed[:, 1:]], 1)


class QueriesUnscaled(reference.DividedAttention):
  def forward(self, x, groups):
    with torch.no_grad():
      width = x.shape[-1]
      self.qkv.weight[:width] *= (width // self.heads) ** 0.5
      self.qkv.bias[:width] *= (width // self.heads) ** 0.5
    return super().forward(x, groups)


class KeysFirst(reference.DividedAttention):
  """The fused layer read as keys, queries, values."""

  def forward(self, x, groups):
    order = torch.arange(3 * x.shape[-1]).reshape(3, -1)[[1, 0, 2]].flatten()
    with torch.no_grad():
      self.qkv.weight[:], self.qkv.bias[:] = self.qkv.weight[order], self.qkv.bias[order]
    return super().forward(x, groups)


class HeadsOutermost(reference.DividedAttention):
  """The fused layer read as q, k, v inside each head."""

  def forward(self, x, groups):
    order = torch.arange(3 * x.shape[-1]).reshape(self.heads, 3, -1).transpose(0, 1).flatten()
    with torch.no_grad():
      self.qkv.weight[:], self.qkv.bias[:] = self.qkv.weight[order], self.qkv.bias[order]
    return super().forward(x, groups)


class TanhGelu(reference.MLP):
  def forward(self, x):
    return self.fc2(torch.nn.functional.gelu(self.fc1(x), approximate='tanh'))


MUTATIONS = {
  reference.Block: [BothResiduals, SpaceFirst, GroupsSwapped, NormsSwapped],
  reference.VideoModel: [ClsInTime, ClsWithoutPosition, PositionMajor],
  reference.DividedAttention: [ClsInItsOwnGroup, QueriesUnscaled, KeysFirst, HeadsOutermost],
  reference.MLP: [TanhGelu],
}


@pytest.mark.parametrize(
  ('kind', 'other'), [(kind, other) for kind, others in MUTATIONS.items() for other in others],
  ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_another_tower_shows(
  kind: type, other: type, port: egovlp.EgoVLPv2, record_property: Callable[[str, object], None]
) -> None:
  model = build(weights())
  changed = [module for module in model.modules() if type(module) is kind]
  assert changed
  for module in changed:
    module.__class__ = other
  distance = difference(found(port)[0], expected(model)[0])
  record_property('max_abs_difference', f'{distance:.1e}')
  assert distance >= 10 * TOLERANCE


@pytest.mark.parametrize('kept', [[0], [0, 1, 2], [0, 2, 3], [1]])
def test_frames_that_are_not_valid(kept: list[int], port: egovlp.EgoVLPv2) -> None:
  """They are as good as absent: the reference on the other frames alone, each with its own temporal embedding."""
  tensors = weights()
  tensors['video_model.temporal_embed'] = tensors['video_model.temporal_embed'][:, kept]
  feature, _ = expected(build(tensors, frames=len(kept)), PIXELS[:, kept])
  valid = np.isin(np.arange(SIZES['frames']), kept)
  pixels = np.where(valid[:, None, None, None], PIXELS, np.float32(7))
  ours, _ = found(port, pixels, np.broadcast_to(valid, (len(FRAMES), len(valid))))
  assert difference(ours, feature) <= TOLERANCE


def test_fewer_frames_in_a_second(checkpoint: pathlib.Path) -> None:
  """The first temporal embeddings are used, as the public code does with a checkpoint of more frames."""
  tensors = weights()
  tensors['video_model.temporal_embed'] = tensors['video_model.temporal_embed'][:, :2]
  feature, _ = expected(build(tensors, frames=2), PIXELS[:, 2:])
  ours, _ = found(load(checkpoint, num_frames=2), PIXELS[:, 2:])
  assert difference(ours, feature) <= TOLERANCE


def test_before_the_projection(checkpoint: pathlib.Path) -> None:
  model = build(weights())
  with torch.no_grad():
    cls = model.video_model.norm(model.video_model(torch.tensor(PIXELS))[-1][:, 0]).numpy()
  assert difference(found(load(checkpoint, projection=False))[0], cls) <= TOLERANCE


def test_bfloat16(checkpoint: pathlib.Path, record_property: Callable[[str, object], None]) -> None:
  """Near the reference: within 5 % of the features' standard deviation on average."""
  feature, _ = expected(build(weights()))
  ours, _ = found(load(checkpoint, dtype='bfloat16'))
  error = float(np.abs(ours - feature).mean() / feature.std())
  record_property('mean_relative_difference', f'{error:.1e}')
  assert 1e-4 < error <= 0.05
