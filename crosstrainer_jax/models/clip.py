"""CLIP (Radford et al. 2021, arXiv:2103.00020): a tower for pictures and one for texts, with one space of embeddings.

The image tower sees patches and one class token, whose last state is the picture's; the text tower sees tokens, each
only what comes before it, and the state at the end of the text is the text's. As f_v the image tower alone is used.
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
  norm_sources,
  normalise,
  patches,
  section,
  text_embedding_sources,
  tower_prefix,
  transformer_sources,
)
from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.transformer import Transformer, layer_norm, linear
from crosstrainer_jax.weights.convert import LINEAR, Source

# Tensors of checkpoints that the whole model has no use for, the image tower and f_v, and the text tower.
BUFFERS = (r'(vision_model\.|text_model\.)?embeddings\.position_ids$',)
IGNORED = (*BUFFERS, r'text_model\.', r'(visual|text)_projection\.', r'logit_scale$')
TEXT_IGNORED = (*BUFFERS, r'vision_model\.', r'visual_projection\.', r'logit_scale$')
# The output of the image tower that is a frame's feature: in the space of texts, or before the projection to it.
FEATURES = ('projected', 'pooled')
PROJECTION = 'visual_projection.weight'
# An end token that old configs name wrongly. The text's end is then its highest token, as OpenAI's code has it.
LEGACY_EOS = 2


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig(TowerConfig):
  """Sizes of the image tower.

  Attributes:
    projection_dim: width of the space that texts share; None leaves the projection out.
  """

  hidden_act: str = 'quick_gelu'
  image_size: int = 224
  patch_size: int = 32
  projection_dim: int | None = 512

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'ClipVisionConfig':
    """From the content of `config.json` of the whole model or of the image tower.

    Args:
      settings: fields that win, for example `projection_dim=None` and `dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(**_tower(config, 'vision', ClipVisionConfig) | settings)

  @property
  def positions(self) -> int:
    """Patches and the class token."""
    return (self.image_size // self.patch_size) ** 2 + 1

  @property
  def feature_dim(self) -> int:
    return self.projection_dim or self.hidden_size


@dataclasses.dataclass(frozen=True)
class ClipTextConfig(TowerConfig):
  """Sizes of the text tower."""

  hidden_size: int = 512
  intermediate_size: int = 2048
  num_attention_heads: int = 8
  hidden_act: str = 'quick_gelu'
  vocab_size: int = 49408
  max_position_embeddings: int = 77
  eos_token_id: int = 49407
  projection_dim: int = 512

  def __post_init__(self) -> None:
    super().__post_init__()
    if not isinstance(self.eos_token_id, int):
      raise ValueError(f'eos_token_id={self.eos_token_id!r} is not supported; supported: one number')

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'ClipTextConfig':
    """From the content of `config.json` of the whole model or of the text tower.

    Args:
      settings: fields that win, for example `dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(**_tower(config, 'text', ClipTextConfig) | settings)


@dataclasses.dataclass(frozen=True)
class ClipConfig:
  """Sizes of both towers."""

  vision: ClipVisionConfig
  text: ClipTextConfig

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'ClipConfig':
    """From the content of `config.json` of the whole model.

    Args:
      settings: `dtype` and `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(
      ClipVisionConfig.from_hugging_face(config, **settings), ClipTextConfig.from_hugging_face(config, **settings)
    )


@dataclasses.dataclass(frozen=True)
class ClipFramesConfig(FrameEncoderConfig, ClipVisionConfig):
  """The image tower as f_v.

  Raises:
    ValueError: a setting that is not supported.
  """

  def __post_init__(self) -> None:
    super().__post_init__()
    check_pictures(self.preprocessing, self.image_size)

  @classmethod
  def from_hugging_face(  # type: ignore[override]
    cls, config: dict[str, Any], processor: dict[str, Any], *, feature: str = 'projected', **settings: Any
  ) -> 'ClipFramesConfig':
    """From a checkpoint of the whole model or of the image tower.

    Args:
      config: content of `config.json`.
      processor: content of `preprocessor_config.json`.
      feature: 'projected', the embedding that is compared with texts, or 'pooled', the state before that projection.
      settings: `fps`, `dtype`, `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    if feature not in FEATURES:
      raise ValueError(f'feature={feature!r} is not known; known: {", ".join(FEATURES)}')
    fields = _tower(config, 'vision', ClipVisionConfig)
    if feature == 'pooled':
      fields['projection_dim'] = None
    return cls(preprocessing=Preprocessing.from_hugging_face(processor), **fields | settings)


def settings_of_tower(names: Iterable[str]) -> dict[str, Any]:
  """What a checkpoint of the image tower alone (CLIPVisionModel, CLIPVisionModelWithProjection) does not say itself.

  Args:
    names: of the checkpoint's tensors.
  """
  return {} if PROJECTION in names else {'feature': 'pooled'}


def _tower(config: dict[str, Any], name: str, tower: type[TowerConfig]) -> dict[str, Any]:
  """Fields of one tower."""
  fields = section(config, f'{name}_config', tower, {'clip': 'whole', f'clip_{name}_model': 'tower'})
  if config['model_type'] == 'clip':
    # the whole model projects to its own width, whatever its towers say
    fields['projection_dim'] = config.get('projection_dim', 512)
  return fields


class ClipVision(nnx.Module):
  """The image tower."""

  def __init__(self, config: ClipVisionConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    width = config.hidden_size
    self.patch_embedding = linear(3 * config.patch_size**2, width, config, rngs, (None, 'embed'), bias=False)
    self.class_embedding = nnx.Param(
      jax.random.normal(rngs.params(), (width,), jnp.dtype(config.param_dtype)) * width**-0.5, logical_axes=('embed',)
    )
    self.position_embedding = embedding_table(config.positions, config, rngs)
    self.pre_norm = layer_norm(width, config.layer_norm_eps, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.post_norm = layer_norm(width, config.layer_norm_eps, config, rngs)
    self.projection = (
      linear(width, config.projection_dim, config, rngs, ('embed', None), bias=False) if config.projection_dim else None
    )

  def __call__(self, pixels: jax.Array) -> Encoded:
    """Encodes float[B, image_size, image_size, 3], preprocessed; the class token is the first of the tokens.

    Raises:
      ValueError: pictures of another size.
    """
    size = self.config.image_size
    if pixels.shape[1:] != (size, size, 3):
      raise ValueError(f'the encoder takes pictures of {size} x {size} pixels; got {pixels.shape}')
    x = self.patch_embedding(patches(pixels, self.config.patch_size))
    first = jnp.broadcast_to(self.class_embedding[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([first, x], 1) + self.position_embedding(jnp.arange(self.config.positions))
    tokens, states = self.transformer(self.pre_norm(x))
    pooled = self.post_norm(tokens[:, 0])
    return Encoded(pooled if self.projection is None else self.projection(pooled), tokens, states)


class ClipText(nnx.Module):
  """The text tower."""

  def __init__(self, config: ClipTextConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    self.embedding = TextEmbedding(config.vocab_size, config.max_position_embeddings, config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.final_norm = layer_norm(config.hidden_size, config.layer_norm_eps, config, rngs)
    self.projection = linear(config.hidden_size, config.projection_dim, config, rngs, ('embed', None), bias=False)

  def __call__(self, tokens: jax.Array, mask: jax.Array | None = None) -> Encoded:
    """Encodes int32[B, L].

    A text ends at its first end token, and what follows does not matter. One without is taken at its first token.

    Args:
      mask: bool[B, L], False at padding, which no token sees; None when all are real.

    Raises:
      ValueError: texts that are longer than there are positions.
    """
    length = tokens.shape[1]
    seen = jnp.tril(jnp.ones((length, length), bool))[None, None]
    if mask is not None:
      seen = seen & mask[:, None, None, :]
    x, states = self.transformer(self.embedding(tokens), seen)
    x = self.final_norm(x)
    eos = self.config.eos_token_id
    end = jnp.argmax(tokens if eos == LEGACY_EOS else tokens == eos, -1)
    pooled = jnp.take_along_axis(x, end[:, None, None], 1)[:, 0]
    return Encoded(self.projection(pooled), x, states)


class Clip(nnx.Module):
  """Both towers, and the scale of their cosines."""

  def __init__(self, config: ClipConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    self.vision, self.text = ClipVision(config.vision, rngs), ClipText(config.text, rngs)
    # log(1 / 0.07), the temperature that the paper starts from
    self.logit_scale = nnx.Param(jnp.asarray(2.6592, jnp.float32), logical_axes=())

  def __call__(self, pixels: jax.Array, tokens: jax.Array, mask: jax.Array | None = None) -> Similarity:
    """Compares float[B, image_size, image_size, 3] with texts int32[C, L]; `mask` as in `ClipText`."""
    image, text = normalise(self.vision(pixels).features), normalise(self.text(tokens, mask).features)
    return Similarity(jnp.exp(self.logit_scale[...]) * image @ text.T, image, text)


class ClipFrames(FrameEncoder):
  """The image tower as f_v."""

  def __init__(self, config: ClipFramesConfig, rngs: nnx.Rngs) -> None:
    super().__init__(config, ClipVision(config, rngs))


def sources(
  config: ClipConfig | ClipVisionConfig | ClipTextConfig | ClipFramesConfig, names: Iterable[str] = ()
) -> dict[str, Source]:
  """Where each parameter of the module with this config comes from, in a checkpoint of the whole model or of the tower.

  Args:
    names: of the checkpoint's tensors, see `tower_prefix`.
  """
  if isinstance(config, ClipConfig):
    whole = {f'vision/{path}': source for path, source in sources(config.vision).items()}
    whole |= {f'text/{path}': source for path, source in sources(config.text).items()}
    return whole | {'logit_scale': Source('logit_scale')}
  if isinstance(config, ClipTextConfig):
    prefix = tower_prefix('text_model.', names)
    return {
      **text_embedding_sources('embedding/', f'{prefix}embeddings.'),
      **transformer_sources('transformer', prefix),
      **norm_sources('final_norm', f'{prefix}final_layer_norm'),
      'projection/kernel': Source('text_projection.weight', LINEAR),
    }
  prefix = tower_prefix('vision_model.', names)
  found = {
    # [D, RGB, rows, columns] to [rows, columns, RGB, D], as pixels are laid out
    'patch_embedding/kernel': Source(f'{prefix}embeddings.patch_embedding.weight', (2, 3, 1, 0)),
    'class_embedding': Source(f'{prefix}embeddings.class_embedding'),
    'position_embedding/embedding': Source(f'{prefix}embeddings.position_embedding.weight'),
    **norm_sources('pre_norm', f'{prefix}pre_layrnorm'),
    **transformer_sources('transformer', prefix),
    **norm_sources('post_norm', f'{prefix}post_layernorm'),
  }
  if config.projection_dim:
    found['projection/kernel'] = Source(PROJECTION, LINEAR)
  if isinstance(config, ClipFramesConfig):
    return {f'tower/{path}': source for path, source in found.items()}
  return found
