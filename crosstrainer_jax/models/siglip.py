"""SigLIP (Zhai et al. 2023, arXiv:2303.15343), and SigLIP 2 (Tschannen et al. 2025) for pictures of one size.

As CLIP, but tokens of a text all see each other, a learned query attends over a picture's patches, and logits have a
bias, since every pair of a picture and a text is judged on its own. As f_v the image tower alone is used.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.image_text import (
  Encoded,
  FrameEncoder,
  FrameEncoderConfig,
  Similarity,
  TextEmbedding,
  TowerConfig,
  check_pictures,
  embedding_table,
  linear_sources,
  norm_sources,
  normalise,
  patches,
  section,
  text_embedding_sources,
  tower_prefix,
  transformer_sources,
)
from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.transformer import ACTIVATIONS, Transformer, layer_norm, linear
from crosstrainer_jax.weights.convert import LINEAR, Source

# Tensors of checkpoints that the whole model has no use for, the image tower and f_v, and the text tower.
BUFFERS = (r'(vision_model\.|text_model\.)?embeddings\.position_ids$',)
IGNORED = (*BUFFERS, r'text_model\.', r'logit_(scale|bias)$')
TEXT_IGNORED = (*BUFFERS, r'vision_model\.', r'logit_(scale|bias)$')


@dataclasses.dataclass(frozen=True)
class SiglipTowerConfig(TowerConfig):
  """Sizes of a tower; the defaults are those of both."""

  hidden_act: str = 'gelu_pytorch_tanh'
  layer_norm_eps: float = 1e-6


@dataclasses.dataclass(frozen=True)
class SiglipVisionConfig(SiglipTowerConfig):
  """Sizes of the image tower."""

  image_size: int = 224
  patch_size: int = 16
  vision_use_head: bool = True

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.vision_use_head:
      raise ValueError('vision_use_head=False is not supported; supported: True, a picture has one embedding')

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'SiglipVisionConfig':
    """From the content of `config.json` of the whole model or of the image tower.

    Args:
      settings: fields that win, for example `dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(**_vision_fields(config) | settings)

  @property
  def positions(self) -> int:
    return (self.image_size // self.patch_size) ** 2

  @property
  def feature_dim(self) -> int:
    return self.hidden_size


@dataclasses.dataclass(frozen=True)
class SiglipTextConfig(SiglipTowerConfig):
  """Sizes of the text tower.

  Attributes:
    projection_size: width of the embedding; None for `hidden_size`.
  """

  vocab_size: int = 32000
  max_position_embeddings: int = 64
  projection_size: int | None = None

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'SiglipTextConfig':
    """From the content of `config.json` of the whole model or of the text tower, of SigLIP or of SigLIP 2.

    Args:
      settings: fields that win, for example `dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    families = {'siglip': 'whole', 'siglip2': 'whole', 'siglip_text_model': 'tower', 'siglip2_text_model': 'tower'}
    return cls(**section(config, 'text_config', SiglipTextConfig, families) | settings)


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
  """Sizes of both towers."""

  vision: SiglipVisionConfig
  text: SiglipTextConfig

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'SiglipConfig':
    """From the content of `config.json` of the whole model.

    Args:
      settings: `dtype` and `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(
      SiglipVisionConfig.from_hugging_face(config, **settings), SiglipTextConfig.from_hugging_face(config, **settings)
    )


@dataclasses.dataclass(frozen=True)
class SiglipFramesConfig(FrameEncoderConfig, SiglipVisionConfig):
  """The image tower as f_v.

  Raises:
    ValueError: a setting that is not supported.
  """

  def __post_init__(self) -> None:
    super().__post_init__()
    check_pictures(self.preprocessing, self.image_size)

  @classmethod
  def from_hugging_face(  # type: ignore[override]
    cls, config: dict[str, Any], processor: dict[str, Any], **settings: Any
  ) -> 'SiglipFramesConfig':
    """From a checkpoint of the whole model or of the image tower.

    Args:
      config: content of `config.json`.
      processor: content of `preprocessor_config.json`.
      settings: `fps`, `dtype`, `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(preprocessing=Preprocessing.from_hugging_face(processor), **_vision_fields(config) | settings)


def _vision_fields(config: dict[str, Any]) -> dict[str, Any]:
  families = {'siglip': 'whole', 'siglip_vision_model': 'tower'}
  return section(config, 'vision_config', SiglipVisionConfig, families)


class AttentionPooling(nnx.Module):
  """One embedding of a picture: what a learned query takes from its patches, and an MLP with its residual."""

  def __init__(self, config: TowerConfig, rngs: nnx.Rngs) -> None:
    width = config.hidden_size
    self.heads, self.activation = config.num_attention_heads, config.hidden_act
    self.probe = nnx.Param(
      jax.random.normal(rngs.params(), (1, 1, width), jnp.dtype(config.param_dtype)) * width**-0.5,
      logical_axes=(None, None, 'embed'),
    )
    # query, key and value beside each other, as checkpoints have them
    self.in_proj = linear(width, 3 * width, config, rngs, ('embed', 'heads'))
    self.out_proj = linear(width, width, config, rngs, ('heads', 'embed'))
    self.norm = layer_norm(width, config.layer_norm_eps, config, rngs)
    self.fc1 = linear(width, config.intermediate_size, config, rngs, ('embed', 'mlp'))
    self.fc2 = linear(config.intermediate_size, width, config, rngs, ('mlp', 'embed'))

  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """float[B, D] of float[B, L, D]; where `mask`, bool broadcast to [B, heads, 1, L], is False a patch is not seen."""

    def heads(y: jax.Array) -> jax.Array:
      return y.reshape(*y.shape[:2], self.heads, -1)

    query = jnp.split(self.in_proj(self.probe[...]), 3, -1)[0]
    query = jnp.broadcast_to(query, (len(x), *query.shape[1:]))
    _, keys, values = jnp.split(self.in_proj(x), 3, -1)
    mixed = jax.nn.dot_product_attention(heads(query), heads(keys), heads(values), mask=mask)
    pooled = self.out_proj(mixed.reshape(len(x), -1))
    return pooled + self.fc2(ACTIVATIONS[self.activation](self.fc1(self.norm(pooled))))


class SiglipEncoder(nnx.Module):
  """The image tower behind its patches; how those and their positions are made differs between the families."""

  def __init__(self, config: Any, rngs: nnx.Rngs) -> None:
    self.config = config
    self.patch_embedding = linear(3 * config.patch_size**2, config.hidden_size, config, rngs, (None, 'embed'))
    self.position_embedding = embedding_table(config.positions, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.post_norm = layer_norm(config.hidden_size, config.layer_norm_eps, config, rngs)
    self.head = AttentionPooling(config, rngs)

  def encode(self, patches: jax.Array, positions: jax.Array, mask: jax.Array | None = None) -> Encoded:
    """Encodes patches float[B, L, pixels] at positions float[L, D] or [B, L, D].

    Args:
      mask: bool[B, L], False at padding, which no patch sees; None when all are real.
    """
    seen = None if mask is None else mask[:, None, None, :]
    x, states = self.transformer(self.patch_embedding(patches) + positions, seen)
    x = self.post_norm(x)
    return Encoded(self.head(x, seen), x, states)


class SiglipVision(SiglipEncoder):
  """The image tower for pictures of one size."""

  def __init__(self, config: SiglipVisionConfig, rngs: nnx.Rngs) -> None:
    super().__init__(config, rngs)

  def __call__(self, pixels: jax.Array) -> Encoded:
    """Encodes float[B, image_size, image_size, 3], preprocessed.

    Raises:
      ValueError: pictures of another size.
    """
    size = self.config.image_size
    if pixels.shape[1:] != (size, size, 3):
      raise ValueError(f'the encoder takes pictures of {size} x {size} pixels; got {pixels.shape}')
    return self.encode(
      patches(pixels, self.config.patch_size), self.position_embedding(jnp.arange(self.config.positions))
    )


class SiglipText(nnx.Module):
  """The text tower."""

  def __init__(self, config: SiglipTextConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    self.embedding = TextEmbedding(config.vocab_size, config.max_position_embeddings, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.final_norm = layer_norm(config.hidden_size, config.layer_norm_eps, config, rngs)
    width = config.projection_size or config.hidden_size
    self.head = linear(config.hidden_size, width, config, rngs, ('embed', None))

  def __call__(self, tokens: jax.Array, mask: jax.Array | None = None) -> Encoded:
    """Encodes int32[B, L]; a text's embedding is that of its last place, padding or not.

    The weights were trained with texts padded to `max_position_embeddings` and without a mask.

    Args:
      mask: bool[B, L], False at padding that no token sees; None when all are seen.

    Raises:
      ValueError: texts that are longer than there are positions.
    """
    seen = None if mask is None else mask[:, None, None, :]
    x, states = self.transformer(self.embedding(tokens), seen)
    x = self.final_norm(x)
    return Encoded(self.head(x[:, -1]), x, states)


class PairLogits(nnx.Module):
  """Scale and bias of the cosines of pictures and texts; a sigmoid of a logit is the probability of a pair."""

  def __init__(self) -> None:
    # what the paper starts from
    self.scale = nnx.Param(jnp.full((1,), jnp.log(10.0), jnp.float32), logical_axes=(None,))
    self.bias = nnx.Param(jnp.full((1,), -10.0, jnp.float32), logical_axes=(None,))

  def __call__(self, image: jax.Array, text: jax.Array) -> Similarity:
    """Compares embeddings float[B, F] and float[C, F]."""
    image, text = normalise(image), normalise(text)
    return Similarity(jnp.exp(self.scale[...]) * (image @ text.T) + self.bias[...], image, text)


class Siglip(nnx.Module):
  """Both towers."""

  def __init__(self, config: SiglipConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    self.vision, self.text = SiglipVision(config.vision, rngs), SiglipText(config.text, rngs)
    self.logits = PairLogits()

  def __call__(self, pixels: jax.Array, tokens: jax.Array, mask: jax.Array | None = None) -> Similarity:
    """Compares float[B, image_size, image_size, 3] with texts int32[C, L]; `mask` as in `SiglipText`."""
    return self.logits(self.vision(pixels).features, self.text(tokens, mask).features)


class SiglipFrames(FrameEncoder):
  """The image tower as f_v."""

  def __init__(self, config: SiglipFramesConfig, rngs: nnx.Rngs) -> None:
    super().__init__(config, SiglipVision(config, rngs))


def sources(
  config: SiglipConfig | SiglipVisionConfig | SiglipTextConfig | SiglipFramesConfig, names: Iterable[str] = ()
) -> dict[str, Source]:
  """Where each parameter of the module with this config comes from, in a checkpoint of the whole model or of the tower.

  Args:
    names: of the checkpoint's tensors, see `tower_prefix`.
  """
  if isinstance(config, SiglipConfig):
    return whole_sources(vision_sources('vision_model.'), text_sources())
  if isinstance(config, SiglipTextConfig):
    return text_sources(names)
  found = vision_sources(tower_prefix('vision_model.', names))
  if isinstance(config, SiglipFramesConfig):
    return {f'tower/{path}': source for path, source in found.items()}
  return found


def whole_sources(vision: dict[str, Source], text: dict[str, Source]) -> dict[str, Source]:
  """Of a module with both towers, from the sources of each."""
  whole = {f'vision/{path}': source for path, source in vision.items()}
  whole |= {f'text/{path}': source for path, source in text.items()}
  return whole | {'logits/scale': Source('logit_scale'), 'logits/bias': Source('logit_bias')}


def vision_sources(prefix: str, axes: tuple[int, ...] = (2, 3, 1, 0)) -> dict[str, Source]:
  """Of the image tower.

  Args:
    axes: of the patch embedding: [D, RGB, rows, columns] to [rows, columns, RGB, D], as pixels are laid out.
  """
  return {
    'patch_embedding/kernel': Source(f'{prefix}embeddings.patch_embedding.weight', axes),
    'patch_embedding/bias': Source(f'{prefix}embeddings.patch_embedding.bias'),
    'position_embedding/embedding': Source(f'{prefix}embeddings.position_embedding.weight'),
    **transformer_sources('transformer', prefix),
    **norm_sources('post_norm', f'{prefix}post_layernorm'),
    'head/probe': Source(f'{prefix}head.probe'),
    'head/in_proj/kernel': Source(f'{prefix}head.attention.in_proj_weight', LINEAR),
    'head/in_proj/bias': Source(f'{prefix}head.attention.in_proj_bias'),
    **linear_sources('head/out_proj', f'{prefix}head.attention.out_proj'),
    **norm_sources('head/norm', f'{prefix}head.layernorm'),
    **linear_sources('head/fc1', f'{prefix}head.mlp.fc1'),
    **linear_sources('head/fc2', f'{prefix}head.mlp.fc2'),
  }


def text_sources(names: Iterable[str] = ()) -> dict[str, Source]:
  """Of the text tower; `names` as in `sources`."""
  prefix = tower_prefix('text_model.', names)
  return {
    **text_embedding_sources('embedding/', f'{prefix}embeddings.'),
    **transformer_sources('transformer', prefix),
    **norm_sources('final_norm', f'{prefix}final_layer_norm'),
    **linear_sources('head', f'{prefix}head'),
  }
