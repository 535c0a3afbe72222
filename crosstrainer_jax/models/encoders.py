"""The registry of video encoders f_v that are trained here, how one is written, and how any encoder is read.

An encoder is an `nnx.Module` that turns uint8[N, T, H, W, 3] (and optional bool[N, T] validity) into float32[N, S, D],
built from a dataclass that has `fps`, `image_size`, `frames_per_token` and `feature_dim`. One that makes a picture of
those frames rather than one token, as Qwen2.5-VL does, has `second` as well, the grid of it. Those of other projects
are in `hub_encoders.py`.
"""

import dataclasses
import hashlib
import importlib.resources
import inspect
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from crosstrainer_jax.input.mrope import Grid
from crosstrainer_jax.models import egovlp, hub_encoders
from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.registry import Registry, configure
from crosstrainer_jax.models.video_transformer import VideoTransformer, VideoTransformerConfig
from crosstrainer_jax.weights import hub
from crosstrainer_jax.weights.tensors import Tensors

# name -> (config dataclass, module). A new encoder is one file and one line here.
ENCODERS: Registry = {
  'video_transformer': (VideoTransformerConfig, VideoTransformer),
}

# Those of other projects come in their own form; `save` writes what has become of them where they trained along.
_MODULES: dict[str, Any] = {family.name: family.module for family in hub_encoders.FAMILIES.values()}
_MODULES['egovlp'] = egovlp.EgoVLPv2
FOREIGN: Registry = {
  name: (inspect.signature(module.__init__).parameters['config'].annotation, module)
  for name, module in _MODULES.items()
}

SHIPPED = 'video_transformer.safetensors'
# In place of weights: features that a dataset came with lie in its records.
RECORDS = 'records'


@dataclasses.dataclass(frozen=True)
class RecordedConfig:
  """Of an encoder of which nothing is here but its features: one for each second."""

  feature_dim: int
  fps: int = 1
  image_size: int = 0
  frames_per_token: int = 1


@dataclasses.dataclass(frozen=True)
class Encoder:
  """A frozen f_v: its graph, its parameters and a fingerprint that names both.

  Attributes:
    resizes: takes frames of any size, and makes of them what it needs.
    by_second: a feature depends on the frames of its own second alone.
  """

  name: str
  config: Any
  graph: nnx.GraphDef
  params: nnx.State
  fingerprint: str
  resizes: bool = False
  by_second: bool = False

  @property
  def frame_size(self) -> int | None:
    """Height and width that frames must have; None where any will do."""
    return None if self.resizes else self.config.image_size

  @property
  def second(self) -> Grid:
    """The tokens of so many frames as are encoded together."""
    found: Grid = getattr(self.config, 'second', Grid(1))
    return found

  @property
  def each(self) -> int:
    """How many they are."""
    return self.second.tokens

  def apply(self, params: nnx.State, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """uint8[N, T, H, W, 3] -> float32[N, S, D]."""
    return nnx.merge(self.graph, params)(frames, valid)


def build(name: str, config: dict[str, Any], seed: int = 0) -> tuple[Any, nnx.Module]:
  """A freshly initialised encoder and its config dataclass.

  Raises:
    ValueError: no such encoder, or a setting that it does not have.
  """
  settings = configure('encoder', ENCODERS, name, config)
  return settings, ENCODERS[name][1](settings, nnx.Rngs(seed))


def save(
  path: str | Path, name: str, config: Any, params: nnx.State, notes: dict[str, str], dtype: str = 'float16'
) -> str:
  """Writes an encoder in `dtype`, its config and `notes` (command, seed) in its header; returns SHA-256."""
  flat = flatten_dict(nnx.to_pure_dict(params), sep='/')
  tensors = {key: np.asarray(value).astype(dtype) for key, value in flat.items()}
  header = {'encoder': name, 'config': json.dumps(dataclasses.asdict(config), sort_keys=True), **notes}
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  save_file(tensors, str(path), metadata=header)
  return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def shipped_path() -> Path:
  """The weights that come with the package."""
  return Path(str(importlib.resources.files('crosstrainer_jax.weights') / SHIPPED))


def load(path: str | Path = 'shipped', revision: str = '', fps: int = 0, dtype: str = '', size: int = 0) -> Encoder:
  """Reads an encoder.

  Args:
    path: `shipped`, the one that comes with the package; a file that `save` wrote; EgoVLPv2's checkpoint; or a
      directory or repository of the Hugging Face hub with CLIP, SigLIP or V-JEPA 2.
    revision: of a repository.
    fps: frames of a second that are looked at, where the weights leave that open; 0 for the family's own default.
    dtype: of the computation; '' for float32.
    size: height and width that frames are resized to, where the weights leave that open; 0 for the family's default.

  Raises:
    FileNotFoundError, ValueError: nothing there, nothing that is supported, or what does not fit the encoder it names.
  """
  given = {name: value for name, value in (('fps', fps), ('dtype', dtype), ('image_size', size)) if value}
  if str(path) == RECORDS:
    raise ValueError(
      f'config.encoder.weights={RECORDS}: the encoder is not here, only its features of the videos of one dataset; '
      'other videos cannot be encoded'
    )
  if str(path) == 'shipped':
    path = shipped_path()
  elif Path(path).suffix == '.safetensors' and not Path(path).is_file():
    raise FileNotFoundError(
      f'{path}: no encoder weights here. '
      'Make them: python -m crosstrainer_jax.pretrain --config configs/pretrain_encoder.py'
    )
  else:
    path = hub.locate(path, revision)
  if path.is_dir() or path.suffix != '.safetensors' or _is_foreign(path):
    name, config, graph, params, fingerprint = hub_encoders.load(path, **given)
    return Encoder(name, config, graph, params, fingerprint, resizes=True, by_second=True)
  if wrong := [name for name in given if name != 'dtype' or dtype != 'float32']:
    raise ValueError(f'{path}: {", ".join(wrong)} cannot be set: these weights were trained with their own')
  try:
    with safe_open(str(path), 'numpy') as file:
      header = file.metadata() or {}
      tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
  except SafetensorError as error:
    raise ValueError(f'{path}: not a whole safetensors file ({error}); get it again') from error
  if not {'encoder', 'config'} <= set(header):
    raise ValueError(f'{path}: not an encoder of this project (its header names none)')
  name = header['encoder']
  known = ENCODERS | FOREIGN
  try:
    config = configure('encoder', known, name, _fields(json.loads(header['config'])))
  except (ValueError, TypeError) as error:
    raise ValueError(f'{path}: its header describes no encoder of this project ({error})') from error
  # Only shapes are made here, the numbers come from the file.
  graph, state = nnx.split(nnx.eval_shape(lambda: known[name][1](config, nnx.Rngs(0))), nnx.Param)
  expected = flatten_dict(nnx.to_pure_dict(state), sep='/')
  if set(expected) != set(tensors):
    raise ValueError(
      f'{path}: missing {sorted(set(expected) - set(tensors))}, unknown {sorted(set(tensors) - set(expected))}'
    )
  wrong = [key for key, value in expected.items() if value.shape != tensors[key].shape]
  if wrong:
    raise ValueError(f'{path}: these parameters have another shape than the config in its header: {wrong}')
  values = {
    tuple(_number(part) for part in key.split('/')): jnp.asarray(value, jnp.float32) for key, value in tensors.items()
  }
  nnx.replace_by_pure_dict(state, unflatten_dict(values))
  fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  return Encoder(name, config, graph, state, fingerprint, resizes=name in FOREIGN, by_second=name in FOREIGN)


def of_records(fingerprint: str, feature_dim: int) -> Encoder:
  """Stands for the encoder that made the features in a dataset's records; no video can be encoded with it."""
  return Encoder(RECORDS, RecordedConfig(feature_dim), nnx.split(nnx.Module())[0], nnx.State({}), fingerprint)


def is_saved(path: Path) -> bool:
  """Whether `save` wrote a file."""
  if path.suffix != '.safetensors' or not path.is_file():
    return False
  with safe_open(str(path), 'numpy') as file:
    return {'encoder', 'config'} <= set(file.metadata() or {})


def _fields(values: dict[str, Any]) -> dict[str, Any]:
  """Those of a config as they were before they became JSON."""
  fields = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
  if 'preprocessing' in fields:
    fields['preprocessing'] = Preprocessing(**_fields(values['preprocessing']))
  return fields


def _is_foreign(path: Path) -> bool:
  """Whether a safetensors file is EgoVLPv2's checkpoint, converted."""
  try:
    return any('video_model.' in name for name in Tensors(path))
  except ValueError:
    return False


def _number(part: str) -> int | str:
  return int(part) if part.isdigit() else part


def to_float16(features: np.ndarray) -> np.ndarray:
  """Features as they are cached; what half precision cannot hold is an error rather than an infinity."""
  if features.dtype == ml_dtypes.bfloat16:
    features = features.astype(np.float32)
  with np.errstate(over='ignore'):
    half = features.astype(np.float16)
  if not np.isfinite(half).all():
    raise ValueError(
      'the encoder produced features that are not finite in half precision: are its weights or the frames corrupt?'
    )
  return half
