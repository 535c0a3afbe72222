"""Video encoders f_v as others publish them: directories of the Hugging Face hub, and EgoVLPv2's checkpoint."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from crosstrainer_jax.models import clip, egovlp, qwen2_5_vl, qwen_frames, siglip, siglip2, vjepa2
from crosstrainer_jax.models.qwen_frames import QwenFrames, QwenFramesConfig
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import TORCH_SUFFIXES, Tensors


class Family(NamedTuple):
  """How a directory becomes an encoder.

  Attributes:
    name: of the family.
    config: (content of config.json, settings of the processor, **settings) -> the encoder's config.
    module: of the encoder.
    sources: (config, names of the tensors) -> where its parameters come from.
    ignored: names of tensors that are not needed.
    settings: (names of the tensors) -> settings that follow from them.
    resizes: to any `image_size`; others have one.
  """

  name: str
  config: Callable[..., Any]
  module: Callable[..., nnx.Module]
  sources: Callable[[Any, Iterable[str]], dict[str, convert.Source]]
  ignored: tuple[str, ...]
  settings: Callable[[Iterable[str]], dict[str, Any]] = lambda _: {}
  resizes: bool = False


_CLIP = Family('clip', clip.ClipFramesConfig.from_hugging_face, clip.ClipFrames, clip.sources, clip.IGNORED)
_SIGLIP = Family(
  'siglip', siglip.SiglipFramesConfig.from_hugging_face, siglip.SiglipFrames, siglip.sources, siglip.IGNORED
)
_SIGLIP2 = Family(
  'siglip2', siglip2.Siglip2FramesConfig.from_hugging_face, siglip2.Siglip2Frames, siglip2.sources, siglip2.IGNORED
)
# `model_type` of config.json -> family. A new one is one file and one line here.
FAMILIES: dict[str, Family] = {
  'clip': _CLIP,
  'clip_vision_model': _CLIP._replace(settings=clip.settings_of_tower),
  'siglip': _SIGLIP,
  'siglip_vision_model': _SIGLIP,
  'siglip2': _SIGLIP2,
  'siglip2_vision_model': _SIGLIP2,
  'vjepa2': Family(
    'vjepa2',
    vjepa2.VJEPA2Config.from_hugging_face,
    vjepa2.VJEPA2,
    lambda config, _: vjepa2.sources(config),
    vjepa2.IGNORED,
  ),
  qwen2_5_vl.MODEL_TYPE: Family(
    qwen2_5_vl.MODEL_TYPE,
    QwenFramesConfig.from_hugging_face,
    QwenFrames,
    lambda config, names: qwen_frames.sources(names),
    qwen_frames.IGNORED,
    resizes=True,
  ),
}
# Where a processor lies: as transformers 5 saves it, a section of the first of these; or a file of its own.
NESTED, SECTIONS = 'processor_config.json', ('image_processor', 'video_processor')
PROCESSORS = ('preprocessor_config.json', 'video_preprocessor_config.json')


def load(path: Path, **settings: Any) -> tuple[str, Any, nnx.GraphDef, nnx.State, str]:
  """Name of the family, config, graph, parameters on the default device, and fingerprint of an encoder.

  Args:
    path: a directory of the hub, or the file of EgoVLPv2's checkpoint.
    settings: `fps`, `dtype`, `param_dtype`, `image_size`, where they are to differ from the family's own.

  Raises:
    FileNotFoundError, ValueError: what is there is no encoder, or none that is supported.
  """
  name, config, module, sources, ignored, tensors, prefix = (_checkpoint if path.is_file() else _directory)(
    path, settings
  )
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  params = convert.load(tensors, sources, abstract, ignored, prefix)
  # What the features are depends on the settings as well.
  content = f'{name} {config} {tensors.fingerprint()}'
  return name, config, graph, params, hashlib.sha256(content.encode()).hexdigest()[:16]


def _checkpoint(path: Path, settings: dict[str, Any]) -> tuple[Any, ...]:
  """EgoVLPv2's file."""
  if path.suffix not in (*TORCH_SUFFIXES, '.safetensors'):
    raise ValueError(f'{path}: not a file of weights (.safetensors, {", ".join(TORCH_SUFFIXES)})')
  tensors = Tensors(path)
  if 'image_size' in settings:
    raise ValueError(f'{path}: frames of EgoVLPv2 have the size that it was trained with: leave encoder.size at 0')
  # A second is its frames.
  named = {{'fps': 'num_frames'}.get(name, name): value for name, value in settings.items()}
  config = egovlp.EgoVLPv2Config.from_checkpoint(tensors, **named)
  prefix = egovlp.find_prefix(tensors)
  return 'egovlp', config, egovlp.EgoVLPv2, egovlp.sources(config), egovlp.IGNORED, tensors, prefix


def _directory(path: Path, settings: dict[str, Any]) -> tuple[Any, ...]:
  """A directory of the hub."""
  fields = _json(path / 'config.json')
  kind = fields.get('model_type')
  if kind not in FAMILIES:
    raise ValueError(
      f'{path / "config.json"}: model_type = {kind!r} is no video encoder that is supported; '
      f'supported: {", ".join(FAMILIES)}'
    )
  family, tensors = FAMILIES[kind], Tensors(path)
  if 'image_size' in settings and not family.resizes:
    raise ValueError(f'{path}: frames of {kind} have the size that it was trained with: leave encoder.size at 0')
  pictures = processor(path)
  try:
    config = family.config(fields, pictures, **family.settings(tensors), **settings)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return family.name, config, family.module, family.sources(config, tensors), family.ignored, tensors, ''


def processor(path: Path) -> dict[str, Any]:
  """How pictures are prepared, by the first file of a directory that says so; transformers looks in the same order.

  Raises:
    FileNotFoundError, ValueError: none says so, or it is broken.
  """
  nested = _json(path / NESTED) if (path / NESTED).is_file() else {}
  for name in SECTIONS:
    if name in nested:
      return dict(nested[name])
  for name in PROCESSORS:
    if (path / name).is_file():
      return _json(path / name)
  raise FileNotFoundError(
    f'{path}: nothing says how pictures are prepared ({" or ".join(PROCESSORS)} is missing, or {NESTED} '
    f'with {" or ".join(SECTIONS)})'
  )


def _json(path: Path) -> dict[str, Any]:
  if not path.is_file():
    raise FileNotFoundError(f'{path.parent}: no model of the hub here ({path.name} is missing)')
  try:
    content = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  return dict(content)
