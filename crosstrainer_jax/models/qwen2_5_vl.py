"""Qwen2.5-VL (Bai et al. 2025, arXiv:2502.13923) as the hub has it: f_v is its tower, f_m its merger, L its decoder.

The three are modules of their own (`qwen_vision.py`, `mapper.py`, `decoder.py`), so that CrossTrainer can take each for
itself; here they are one model, read from one directory, which sees pictures and videos among words.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.input.mrope import Grid
from crosstrainer_jax.models import llama_family, peft_adapter, qwen_vision
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.mapper import Mapper
from crosstrainer_jax.models.peft_adapter import Layer
from crosstrainer_jax.models.qwen_pixels import QwenPixels, check_frames
from crosstrainer_jax.models.qwen_vision import QwenVision, QwenVisionConfig, windows
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.convert import LINEAR, Source
from crosstrainer_jax.weights.tensors import Tensors

MODEL_TYPE = 'qwen2_5_vl'
# What an absent field of `text_config` and of `vision_config` means.
TEXT: dict[str, Any] = {
  'vocab_size': 152064, 'hidden_size': 8192, 'intermediate_size': 29568, 'num_hidden_layers': 80,
  'num_attention_heads': 64, 'num_key_value_heads': 8, 'max_position_embeddings': 32768, 'rms_norm_eps': 1e-5,
  'max_window_layers': 80, 'rope_theta': 1e6,
}  # fmt: skip
VISION: dict[str, Any] = {'hidden_size': 3584, 'tokens_per_second': 4}
SECTION = (16, 24, 24)
# Tensors of the tower, as the decoder ignores them, and all but those of the two layers of the merger.
VISUAL, NOT_MERGER = (
  r'(model\.)?visual\.',
  (r'lm_head\.', r'model\.(?!visual\.)', r'(model\.)?visual\.(?!merger\.mlp\.)'),
)
# Ids that text_config repeats, and fields of vision_config that say nothing more, or nothing about the result.
REPEATED = ('image_token_id', 'video_token_id', 'vision_start_token_id', 'vision_end_token_id', 'vision_token_id')
HARMLESS = llama_family.HARMLESS | {'in_chans', 'spatial_patch_size'}


@dataclasses.dataclass(frozen=True)
class Qwen2_5_VLConfig:
  """Both parts, and the tokens that stand for pictures.

  Attributes:
    image_token_id, video_token_id: placeholders.
    vision_start_token_id, vision_end_token_id: what stands around them.
  """

  vision: QwenVisionConfig
  text: DecoderConfig
  image_token_id: int = 151655
  video_token_id: int = 151656
  vision_start_token_id: int = 151652
  vision_end_token_id: int = 151653

  def __post_init__(self) -> None:
    if None not in (self.vision.lora, self.text.lora) and self.vision.lora != self.text.lora:
      raise ValueError(
        f'adapters of the tower and of L have one setting for both: {self.vision.lora}, {self.text.lora}'
      )
    if self.vision.out_hidden_size != self.text.hidden_size:
      raise ValueError(
        f'out_hidden_size={self.vision.out_hidden_size} of the tower, but L has hidden_size={self.text.hidden_size}'
      )

  @property
  def lora(self) -> LoRAConfig | None:
    """Of the adapters; which part has any, its own config says."""
    return self.text.lora or self.vision.lora


class Names(NamedTuple):
  """What names begin with in a checkpoint.

  Attributes:
    vision: those of the tower and of the merger.
    text: those of the decoder, but for its head.
  """

  vision: str
  text: str


# As the hub has them, and as transformers holds them since 4.52.
FORMS = (Names('visual.', 'model.'), Names('model.visual.', 'model.language_model.'))


def names_of(tensors: Iterable[str]) -> Names:
  """The form of a checkpoint with these tensors."""
  return FORMS[any(name.startswith(FORMS[1].text) for name in tensors)]


def model_config(
  fields: dict[str, Any],
  source: str = 'config.json',
  vision: dict[str, Any] | None = None,
  **settings: Any,
) -> Qwen2_5_VLConfig:
  """The config of a model.

  Args:
    fields: content of a `config.json`, of either form: `text_config` beside `vision_config`, or flat.
    source: names the file in messages.
    vision: settings of our own for the tower: dtype, param_dtype, lora, remat.
    settings: those for the decoder, as of `llama_family.decoder_config`.

  Raises:
    ValueError: another model, or a field that would change the result and is not supported.
  """
  if fields.get('model_type') != MODEL_TYPE:
    raise ValueError(f'{source}: model_type = {fields.get("model_type")!r} is not supported; supported: {MODEL_TYPE}')
  defaults = {field.name: field.default for field in dataclasses.fields(Qwen2_5_VLConfig)}
  ids = {name: fields.get(name, defaults[name]) for name in REPEATED if name in defaults}
  tower = _vision_config(fields.get('vision_config') or {}, source, vision or {})
  return Qwen2_5_VLConfig(tower, decoder_config(fields, source, **settings), **ids)


def decoder_config(fields: dict[str, Any], source: str = 'config.json', **settings: Any) -> DecoderConfig:
  """The config of the decoder alone; arguments and errors as in `model_config`."""
  text = {name: value for name, value in (fields.get('text_config') or fields).items() if value is not None}
  if 'text_config' in fields:
    text['tie_word_embeddings'] = fields.get('tie_word_embeddings') or text.get('tie_word_embeddings', False)
  for name in (*REPEATED, 'vision_config'):
    text.pop(name, None)
  section = SECTION
  for name in ('rope_scaling', 'rope_parameters'):
    if name in text:
      rope = dict(text[name])
      section = tuple(rope.pop('mrope_section', section))
      text[name] = rope | {key: 'default' for key in ('type', 'rope_type') if rope.get(key) == 'mrope'}
  # In all but its positions it is Qwen2.5.
  return llama_family.decoder_config(
    TEXT | text | {'model_type': 'qwen2'}, source, **{'mrope_section': section, **settings}
  )


def _vision_config(fields: dict[str, Any], source: str, settings: dict[str, Any]) -> QwenVisionConfig:
  given = {name: value for name, value in fields.items() if value is not None and name not in HARMLESS}
  rope = dict(given.pop('rope_parameters', {}))
  if rope.get('rope_theta', qwen_vision.ROPE_THETA) != qwen_vision.ROPE_THETA:
    raise ValueError(f'{source}: rope_parameters = {rope} of the tower is not supported')
  known = {field.name for field in dataclasses.fields(QwenVisionConfig)} - {'dtype', 'param_dtype', 'lora', 'remat'}
  if unknown := {name: value for name, value in given.items() if name not in known and not name.startswith('_')}:
    raise ValueError(f'{source}: vision_config has {unknown}, which is not known here and may change the result')
  for name in ('patch_size', 'temporal_patch_size'):
    if not isinstance(given.get(name, 1), int):
      raise ValueError(f'{source}: {name} = {given[name]!r} is not supported; supported: one number')
  given = VISION | {name: value for name, value in given.items() if name in known}
  if 'fullatt_block_indexes' in given:
    given['fullatt_block_indexes'] = tuple(given['fullatt_block_indexes'])
  try:
    return QwenVisionConfig(**given | settings)
  except ValueError as error:
    raise ValueError(f'{source}: vision_config: {error}') from error


def read_config(directory: str | Path, vision: dict[str, Any] | None = None, **settings: Any) -> Qwen2_5_VLConfig:
  """The config of the model in a directory of the hub; settings as of `model_config`.

  Raises:
    FileNotFoundError, ValueError: no `config.json`, or none of a model that is supported.
  """
  path, fields = llama_family.read_fields(directory)
  return model_config(fields, str(path), vision, **settings)


def decoder_layers(names: Names = FORMS[1]) -> tuple[Layer, ...]:
  """Linear layers that may be adapted of the decoder alone, for `peft_adapter`."""
  return tuple(layer._replace(name=_renamed(layer.name, names)) for layer in peft_adapter.LAYERS)


def layers(names: Names = FORMS[1]) -> tuple[Layer, ...]:
  """Linear layers that may be adapted, for `peft_adapter`: those of the decoder and of the tower."""
  decoder = (layer._replace(path=f'decoder/{layer.path}') for layer in decoder_layers(names))
  tower = (
    Layer(f'vision/blocks/{path}', f'visual/{path}', f'{names.vision}blocks.{{}}.{name}')
    for path, name in qwen_vision.linears().items()
  )
  return *decoder, *tower


class Pictures(NamedTuple):
  """Pictures and videos ready for the tower: N time steps of all of them, in P slots each.

  Attributes:
    patches: float32[N, P, patch_dim].
    positions: int32[N, P, 2].
    valid: bool[N, P].
    slots: of each picture, int32[tokens]: where its merged tokens stand among all N * P / merged.
    grids: of each picture.
  """

  patches: jax.Array
  positions: np.ndarray
  valid: np.ndarray
  slots: list[np.ndarray]
  grids: list[Grid]


def prepare(
  pictures: Sequence[np.ndarray],
  pixels: Sequence[QwenPixels],
  fps: Sequence[float],
  config: QwenVisionConfig,
  steps: int = 1,
  wide: int = 1,
) -> Pictures:
  """Patches of pictures and videos of any shapes.

  Args:
    pictures: uint8[H, W, 3], or a video uint8[T, H, W, 3].
    pixels: for each.
    fps: of each, frames of a second; of a picture any.
    steps, wide: N becomes a multiple of `steps`, and P one of `wide` windows, so that few shapes are compiled.

  Raises:
    ValueError: what is no picture, or one that is too narrow.
  """
  patches, layouts, grids = [], [], []
  for picture, each, rate in zip(pictures, pixels, fps, strict=True):
    frames = check_frames(picture)
    _, height, width, _ = frames.shape
    rows, columns = each.grid(height, width, config)
    layouts.append(windows(rows, columns, config))
    patches.append(_patches(jnp.asarray(frames[None]), each, config)[0])
    interval = config.tokens_per_second * config.temporal_patch_size / rate
    merge = config.spatial_merge_size
    grids.append(Grid(len(patches[-1]), rows // merge, columns // merge, interval))
  most = max(len(layout.valid) for layout in layouts)
  most += -most % (wide * config.merged * config.window_side**2)
  count = sum(grid.steps for grid in grids)
  positions, valid = (
    np.zeros((count + -count % steps, most, 2), np.int32),
    np.zeros((count + -count % steps, most), bool),
  )
  slots, start = [], 0
  for number, (layout, grid) in enumerate(zip(layouts, grids, strict=True)):
    own = slice(start, start + grid.steps)
    positions[own, : len(layout.valid)], valid[own, : len(layout.valid)] = layout.positions, layout.valid
    first = np.arange(start, own.stop) * (most // config.merged)
    slots.append((first[:, None] + layout.tokens).reshape(-1).astype(np.int32))
    rest = len(valid) - count if number == len(grids) - 1 else 0
    patches[number] = jnp.pad(patches[number], ((0, rest), (0, most - len(layout.valid)), (0, 0)))
    start = own.stop
  return Pictures(jnp.concatenate(patches), positions, valid, slots, grids)


@jax.jit(static_argnums=(1, 2))
def _patches(frames: jax.Array, pixels: QwenPixels, config: QwenVisionConfig) -> jax.Array:
  return pixels.patches(frames, config)


class Qwen2_5_VL(nnx.Module):
  """The whole model.

  Args:
    mesh: what it runs on, for kernels that the compiler cannot split over it.
  """

  def __init__(self, config: Qwen2_5_VLConfig, rngs: nnx.Rngs, mesh: Mesh | None = None) -> None:
    self.config = config
    self.vision = QwenVision(config.vision, rngs)
    self.mapper = merger(config, rngs)
    self.decoder = Decoder(config.text, rngs, mesh)

  def see(self, patches: jax.Array, positions: jax.Array, valid: jax.Array, deterministic: bool = True) -> jax.Array:
    """dtype[N * P / merged, hidden]: tokens of L for what `prepare` made, in its slots."""
    features = self.vision(patches, positions, valid, deterministic)
    return self.mapper(features.reshape(-1, features.shape[-1]))

  def embed(self, tokens: jax.Array, seen: jax.Array, slots: jax.Array) -> jax.Array:
    """dtype[B, L, hidden]: word embeddings, and at placeholders what is seen.

    Args:
      tokens: int32[B, L].
      seen: of `see`.
      slots: int32[B, L], which of them stands at a placeholder.
    """
    config, words = self.config, self.decoder.embed(tokens)
    is_picture = (tokens == config.image_token_id) | (tokens == config.video_token_id)
    return jnp.where(is_picture[..., None], seen[slots].astype(words.dtype), words)


def merger(config: Qwen2_5_VLConfig, rngs: nnx.Rngs) -> Mapper:
  """f_m: the two linear layers of the patch merger."""
  width, text = config.vision.feature_dim, config.text
  return Mapper(
    width, text.hidden_size, rngs=rngs, dtype=text.dtype, param_dtype=config.vision.param_dtype, hidden=width
  )


def _renamed(name: str, names: Names) -> str:
  """A name of a decoder that stands alone, as the whole has it."""
  return names.text + name.removeprefix('model.') if name.startswith('model.') else name


def merger_sources(names: Names) -> dict[str, Source]:
  """Where the parameters of `merger` come from."""
  found: dict[str, Source] = {}
  for path, number in (('fc1', 0), ('fc2', 2)):
    name = f'{names.vision}merger.mlp.{number}'
    found |= {f'{path}/kernel': Source(f'{name}.weight', LINEAR), f'{path}/bias': Source(f'{name}.bias')}
  return found


def decoder_sources(config: DecoderConfig, names: Names) -> dict[str, Source]:
  """Where the parameters of the decoder come from."""
  found = llama_family.sources(config)
  return {path: source._replace(name=_renamed(source.name, names)) for path, source in found.items()}


def sources(config: Qwen2_5_VLConfig, names: Names) -> dict[str, Source]:
  """Where each parameter of a `Qwen2_5_VL` comes from; adapters are not among them."""
  parts = {
    'vision': qwen_vision.sources(names.vision),
    'mapper': merger_sources(names),
    'decoder': decoder_sources(config.text, names),
  }
  return {f'{part}/{path}': source for part, found in parts.items() for path, source in found.items()}


def ignored(config: Qwen2_5_VLConfig) -> tuple[str, ...]:
  """Names of tensors that a checkpoint may hold and that are not needed."""
  return (*llama_family.ignored(config.text), r'(model\.)?visual\.rotary_pos_emb\.inv_freq$')


def load(tensors: Tensors, config: Qwen2_5_VLConfig, like: nnx.State) -> nnx.State:
  """The parameters of a `Qwen2_5_VL`, each at its place.

  Args:
    like: abstract state without adapters; its leaves have a sharding where they are to lie on a mesh.

  Raises:
    ValueError: tensors that do not fit; all are listed.
  """
  return convert.load(tensors, sources(config, names_of(tensors)), like, ignored(config))
