"""Two towers: clips and texts as unit vectors of one space, in which what belongs together lies close.

A tower is any module whose call makes unit vectors float32[N, E] of its own arrays, given by name; the loss
(`training/contrastive.py`) knows the vectors alone. So other encoders take the place of one tower and leave the rest as
it is. Whether a tower trains, in part or as a whole, is said by patterns over its parameters' paths (`clips/…`,
`texts/…`), as for every model.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.bert import Bert, BertConfig
from crosstrainer_jax.models.clip import ClipText
from crosstrainer_jax.models.mapper import Mapper
from crosstrainer_jax.models.transformer import Transformer, TransformerConfig, layer_norm, linear

# As in CLIP (Radford et al. 2021, section 2.5): where the scale of cosines starts, and how far it may grow.
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


@dataclasses.dataclass(frozen=True)
class TowerConfig:
  """Sizes of our towers.

  Attributes:
    width, layers, heads: of the transformer.
    dim: E, length of the vectors.
    dtype: of the computation; norms, softmax and the vectors are float32 in any case.
  """

  width: int
  layers: int
  heads: int
  dim: int
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  @property
  def transformer(self) -> TransformerConfig:
    return TransformerConfig(
      self.layers, self.width, self.heads, 4 * self.width, 'gelu', 1e-5, dtype=self.dtype, param_dtype=self.param_dtype
    )


class Pooling(nnx.Module):
  """States float[N, L, width] to unit vectors float32[N, dim]: norm, mean over what is seen, linear layer."""

  def __init__(self, width: int, config: TowerConfig, rngs: nnx.Rngs) -> None:
    self.norm = layer_norm(width, 1e-5, config, rngs)
    self.head = linear(width, config.dim, config, rngs, ('embed', None), bias=False)

  def __call__(self, states: jax.Array, seen: jax.Array) -> jax.Array:
    weight = seen[..., None].astype(jnp.float32)
    mean = (self.norm(states).astype(jnp.float32) * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
    return unit(self.head(mean).astype(jnp.float32))


class VideoTower(nnx.Module):
  """Cached features of a clip to a vector: f_m, a learned place for every token, a transformer, the mean.

  Args:
    tokens: V·S, the most that a clip has.
    whitened: whether features pass a fixed whitening first, which suits those of a frozen encoder.
  """

  def __init__(self, config: TowerConfig, feature_dim: int, tokens: int, rngs: nnx.Rngs, whitened: bool = True) -> None:
    types: dict[str, Any] = {'dtype': config.dtype, 'param_dtype': config.param_dtype}
    self.mapper = Mapper(feature_dim, config.width, rngs=rngs, whitened=whitened, **types)
    self.places = _table(tokens, config.width, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.pooling = Pooling(config.width, config, rngs)

  def __call__(self, features: jax.Array, valid: jax.Array) -> jax.Array:
    """float32[N, E] of `features` float[N, V, S, D]; tokens that are not `valid`, bool[N, V, S], change nothing."""
    n, v, s, d = features.shape
    seen = valid.reshape(n, v * s)
    # What is no real token may hold anything, NaN too.
    states = self.mapper(jnp.where(seen[..., None], features.reshape(n, v * s, d), 0))
    states = states + self.places(jnp.arange(v * s))
    return self.pooling(self.transformer(states, seen[:, None, None, :])[0], seen)


class FramesTower(nnx.Module):
  """Frames of a clip to a vector, through an encoder that may train too.

  Args:
    encoder: uint8[N, T, H, W, 3], bool[N, T] -> float[N, S, D].
    tower: what makes a vector of the features of all views.
  """

  def __init__(self, encoder: nnx.Module, tower: nnx.Module) -> None:
    self.encoder, self.tower = encoder, tower

  def __call__(self, frames: jax.Array, frames_valid: jax.Array, valid: jax.Array) -> jax.Array:
    """float32[N, E] of `frames` uint8[N, V, T, H, W, 3] and bool[N, V, T]; `valid` bool[N, V, S] as of `VideoTower`."""
    n, v, t = frames.shape[:3]
    features = self.encoder(frames.reshape(n * v, *frames.shape[2:]), frames_valid.reshape(n * v, t))
    return self.tower(features.reshape(n, v, *features.shape[1:]), valid)


class MeanTower(nnx.Module):
  """The mean of a clip's features as it is: for encoders whose features lie in one space with texts (CLIP)."""

  def __call__(self, features: jax.Array, valid: jax.Array) -> jax.Array:
    """float32[N, D] of `features` float[N, V, S, D]; tokens that are not `valid`, bool[N, V, S], change nothing."""
    weight = valid[..., None].astype(jnp.float32)
    seen = jnp.where(valid[..., None], unit(features.astype(jnp.float32)), 0)
    return unit((seen * weight).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0))


class ClipTextTower(nnx.Module):
  """CLIP's own text tower, in the space of its image tower."""

  def __init__(self, text: ClipText) -> None:
    self.text = text

  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """float32[N, E] of `ids` int32[N, L]; those that `mask`, bool[N, L], hides change nothing."""
    return unit(self.text(ids, mask).features.astype(jnp.float32))


class TextTower(nnx.Module):
  """A small transformer over the tokens of a text, from nothing.

  Args:
    rows: of the table of tokens.
    length: the most tokens of a text.
  """

  def __init__(self, config: TowerConfig, rows: int, length: int, rngs: nnx.Rngs) -> None:
    self.words = _table(rows, config.width, config, rngs)
    self.places = _table(length, config.width, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.pooling = Pooling(config.width, config, rngs)

  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """float32[N, E] of `ids` int32[N, L]; those that `mask`, bool[N, L], hides change nothing."""
    states = self.words(ids) + self.places(jnp.arange(ids.shape[1]))
    return self.pooling(self.transformer(states, mask[:, None, None, :])[0], mask)


class BertTower(nnx.Module):
  """A pretrained encoder of the BERT family, and a linear layer of our own on the mean of its states."""

  def __init__(self, bert: BertConfig, config: TowerConfig, rngs: nnx.Rngs) -> None:
    self.bert = Bert(bert, rngs)
    self.pooling = Pooling(bert.width, config, rngs)

  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """float32[N, E] of `ids` int32[N, L]; those that `mask`, bool[N, L], hides change nothing."""
    return self.pooling(self.bert(ids, mask).last, mask)


class TwoTowers(nnx.Module):
  """Any two towers and the learned scale of their cosines, 1 / temperature."""

  def __init__(self, clips: nnx.Module, texts: nnx.Module) -> None:
    self.clips, self.texts = clips, texts
    self.log_scale = nnx.Param(jnp.array(math.log(FIRST_SCALE), jnp.float32))

  def scale(self) -> jax.Array:
    """float32[], never above `LARGEST_SCALE`."""
    return jnp.exp(jnp.minimum(self.log_scale[...], math.log(LARGEST_SCALE)))


def unit(vectors: jax.Array) -> jax.Array:
  """`vectors` float32[..., E] scaled to length 1; a zero stays zero, with a finite gradient."""
  return vectors * jax.lax.rsqrt(jnp.square(vectors).sum(-1, keepdims=True) + 1e-12)


def _table(rows: int, width: int, config: TowerConfig, rngs: nnx.Rngs) -> nnx.Embed:
  return nnx.Embed(
    rows,
    width,
    dtype=jnp.dtype(config.dtype),
    param_dtype=jnp.dtype(config.param_dtype),
    embedding_init=nnx.initializers.normal(0.02),
    embedding_metadata={'logical_axes': (None, 'embed')},
    rngs=rngs,
  )
