"""What CLIP, SigLIP and SigLIP 2 share: sizes of a tower, patches, embeddings of text, and an image tower as f_v.

Fields have the names of `config.json`. Dropout is left out: it serves training from scratch.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.transformer import ACTIVATIONS, TransformerConfig, block_sources
from crosstrainer_jax.weights.convert import LINEAR, Source


@dataclasses.dataclass(frozen=True)
class TowerConfig:
  """Sizes of a tower.

  Raises:
    ValueError: a setting that is not supported.
  """

  hidden_size: int = 768
  intermediate_size: int = 3072
  num_hidden_layers: int = 12
  num_attention_heads: int = 12
  hidden_act: str = 'gelu'
  layer_norm_eps: float = 1e-5
  dtype: str = 'float32'  # of the computation; norms and softmax are float32 in any case
  param_dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.hidden_act not in ACTIVATIONS:
      raise ValueError(f'hidden_act={self.hidden_act!r} is not supported; supported: {", ".join(ACTIVATIONS)}')
    if self.hidden_size % self.num_attention_heads:
      raise ValueError(f'num_attention_heads={self.num_attention_heads} does not divide hidden_size={self.hidden_size}')

  @property
  def transformer(self) -> TransformerConfig:
    """The stack of blocks."""
    return TransformerConfig(
      layers=self.num_hidden_layers,
      width=self.hidden_size,
      heads=self.num_attention_heads,
      mlp=self.intermediate_size,
      activation=self.hidden_act,
      eps=self.layer_norm_eps,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )


def section(config: Mapping[str, Any], name: str, tower: type[TowerConfig], families: Mapping[str, str]) -> dict:
  """The fields of `config.json` that are fields of `tower`.

  Args:
    config: of the whole model, which has a section for each tower, or of the tower alone.
    name: of the section, 'vision_config' or 'text_config'.
    families: model_type of a config that is supported -> 'whole' or 'tower'.

  Raises:
    ValueError: another model_type, or a field that is not supported.
  """
  family = config.get('model_type', '')
  if family not in families:
    raise ValueError(f'model_type={family!r} is not supported here; supported: {", ".join(families)}')
  fields = config
  if families[family] == 'whole':
    fields = config.get(name) or {}
    if (override := config.get(f'{name}_dict')) is not None:
      # an old form; what it says, and the defaults for what it does not say, win over the section
      fields = {**fields, **{field.name: field.default for field in dataclasses.fields(tower)}, **override}
  if fields.get('num_channels', 3) != 3:
    raise ValueError(f'num_channels={fields["num_channels"]} is not supported; supported: 3, for red, green and blue')
  for field in ('image_size', 'patch_size'):
    if not isinstance(fields.get(field, 1), int):
      raise ValueError(f'{field}={fields[field]!r} is not supported; supported: one number, for squares')
  known = {field.name for field in dataclasses.fields(tower)} - {'dtype', 'param_dtype'}
  return {field: value for field, value in fields.items() if field in known and value is not None}


class Encoded(NamedTuple):
  """What a tower makes of B pictures or texts.

  Attributes:
    features: float[B, F], the embedding of each.
    tokens: float[B, L, D], the last states, as `transformers` returns them.
    states: float[layers, B, L, D], the states after every block (free where unused).
  """

  features: jax.Array
  tokens: jax.Array
  states: jax.Array


class Similarity(NamedTuple):
  """How well pictures and texts fit.

  Attributes:
    logits: float32[pictures, texts].
    image: float32[pictures, F], of length 1.
    text: float32[texts, F], of length 1.
  """

  logits: jax.Array
  image: jax.Array
  text: jax.Array


def normalise(x: jax.Array) -> jax.Array:
  """float32[..., F] of length 1."""
  x = x.astype(jnp.float32)
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def patches(pixels: jax.Array, size: int) -> jax.Array:
  """float[B, H, W, 3] -> float[B, rows * columns, size * size * 3], row after row.

  What does not fill a patch, at the right and at the bottom, is left out, as by a convolution.
  """
  batch, height, width, channels = pixels.shape
  rows, columns = height // size, width // size
  x = pixels[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, size * size * channels)


def embedding_table(rows: int, config: TowerConfig, rngs: nnx.Rngs) -> nnx.Embed:
  """A table of embeddings."""
  return nnx.Embed(
    rows,
    config.hidden_size,
    dtype=jnp.dtype(config.dtype),
    param_dtype=jnp.dtype(config.param_dtype),
    # Rows are not split: 577 positions, and many a vocabulary, no mesh divides.
    embedding_metadata={'logical_axes': (None, 'embed')},
    rngs=rngs,
  )


class TextEmbedding(nnx.Module):
  """Token plus position."""

  def __init__(self, tokens: int, positions: int, config: TowerConfig, rngs: nnx.Rngs) -> None:
    self.token = embedding_table(tokens, config, rngs)
    self.position = embedding_table(positions, config, rngs)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """float[B, L, D] of int32[B, L].

    Raises:
      ValueError: texts that are longer than there are positions.
    """
    length = tokens.shape[1]
    if length > self.position.num_embeddings:
      raise ValueError(f'texts of {length} tokens, but the encoder takes at most {self.position.num_embeddings}')
    return self.token(tokens) + self.position(jnp.arange(length))


def check_pictures(preprocessing: Preprocessing, size: int) -> None:
  """Raises ValueError unless pictures of every shape become squares of `size` pixels."""
  if {preprocessing.output(*shape) for shape in ((1, 1), (1, 2), (2, 1))} != {(size, size)}:
    raise ValueError(f'{preprocessing} does not yield pictures of image_size={size}')


def tower_prefix(prefix: str, names: Iterable[str]) -> str:
  """What the names of a tower begin with in a checkpoint with these tensors.

  One of a tower alone may lack it, as transformers 5 writes them; without names it is taken to be there.
  """
  names = tuple(names)
  return prefix if not names or any(name.startswith(prefix) for name in names) else ''


def norm_sources(ours: str, theirs: str) -> dict[str, Source]:
  return {f'{ours}/scale': Source(f'{theirs}.weight'), f'{ours}/bias': Source(f'{theirs}.bias')}


def linear_sources(ours: str, theirs: str) -> dict[str, Source]:
  return {f'{ours}/kernel': Source(f'{theirs}.weight', LINEAR), f'{ours}/bias': Source(f'{theirs}.bias')}


def text_embedding_sources(ours: str, theirs: str) -> dict[str, Source]:
  """Of a TextEmbedding; `ours` and `theirs` are what paths and names begin with, here and below."""
  return {
    f'{ours}token/embedding': Source(f'{theirs}token_embedding.weight'),
    f'{ours}position/embedding': Source(f'{theirs}position_embedding.weight'),
  }


def transformer_sources(ours: str, theirs: str) -> dict[str, Source]:
  """Of the blocks, which have the same names in all these families."""
  names = {f'attention/{name}': f'self_attn.{name}' for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj')}
  names |= {'norm1': 'layer_norm1', 'norm2': 'layer_norm2', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
  return block_sources(ours, {path: f'{theirs}encoder.layers.{{}}.{name}' for path, name in names.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameEncoderConfig:
  """How an image tower is used as f_v; to be mixed into the config of the tower.

  Attributes:
    preprocessing: of the frames.
    fps: frames of a second that are looked at.

  Raises:
    ValueError: a setting that is not supported.
  """

  preprocessing: Preprocessing
  fps: int = 1

  def __post_init__(self) -> None:
    super().__post_init__()  # type: ignore[misc]  # of the tower's config
    if self.fps < 1:
      raise ValueError(f'fps={self.fps} must be at least 1')

  @property
  def tokens_per_second(self) -> int:
    return 1

  @property
  def frames_per_token(self) -> int:
    return self.fps


class FrameEncoder(nnx.Module):
  """uint8[N, T, H, W, 3] -> float32[N, S, D]: the mean of a second's frames, each seen alone; S = T / fps.

  Args:
    tower: pictures of float32[B, h, w, 3] -> `Encoded`.
  """

  def __init__(self, config: Any, tower: nnx.Module) -> None:
    self.config, self.tower = config, tower

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes every second from its own frames alone.

    Args:
      frames: uint8[N, T, H, W, 3] of any height and width; T a multiple of `fps`.
      valid: bool[N, T], False where a frame is padding; None when all are real.

    Returns:
      float32[N, S, D]; a second without any valid frame is zero.

    Raises:
      ValueError: T is not a multiple of `fps`.
    """
    n, t = frames.shape[:2]
    if t % self.config.fps:
      raise ValueError(f'the encoder takes a multiple of fps={self.config.fps} frames; got {frames.shape}')
    features = self.features(frames.reshape(n * t, *frames.shape[2:])).astype(jnp.float32)
    weights = jnp.ones((n, t), jnp.float32) if valid is None else valid.astype(jnp.float32)
    weights = weights.reshape(n, -1, self.config.fps)
    features = features.reshape(*weights.shape, -1)
    return jnp.einsum('nsf,nsfd->nsd', weights, features) / jnp.maximum(weights.sum(-1, keepdims=True), 1)

  def features(self, frames: jax.Array) -> jax.Array:
    """float[B, D] of the pictures uint8[B, H, W, 3]."""
    return self.tower(self.config.preprocessing(frames)).features
