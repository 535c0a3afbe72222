"""A finished run as one folder to deploy: L for Hugging Face's libraries, f_m and f_p in PyTorch's layout, and all that
another program must know to answer as `assess` does.

What is in the folder, and how it is served, is in docs/export.md. Every part says its size before it is written, so
that a dry run and an export list the same.
"""

import dataclasses
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from crosstrainer_jax.inference import model_card, reference_clips
from crosstrainer_jax.inference.deployment_facts import (
  as_json,
  encoder_facts,
  generation_facts,
  preprocessing_facts,
  prompt_facts,
)
from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.input.buckets import local_copy
from crosstrainer_jax.input.files import leftovers, replacing
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.input.tokenizer import GENERATION
from crosstrainer_jax.models import encoders, llama_family, mapper, peft_adapter, qwen2_5_vl, qwen_frames
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.qwen2_5_vl import MODEL_TYPE
from crosstrainer_jax.training import stages
from crosstrainer_jax.training.telemetry import Progress
from crosstrainer_jax.weights import convert, hub
from crosstrainer_jax.weights.files import write_shards, write_tensors
from crosstrainer_jax.weights.tensors import Tensor, Tensors

LANGUAGE_MODEL, ADAPTER, ENCODER = 'language_model', 'adapter', 'encoder.safetensors'
# Names the folder as one that an export may replace.
PROMPTS, README = 'prompts.json', 'README.md'
DTYPES = ('float32', 'bfloat16', 'float16')
# How a model that sees is shown pictures.
PROCESSORS = ('preprocessor_config.json', 'video_preprocessor_config.json', 'processor_config.json')
# So many bytes of tensors are held at a time beside the model.
SHARD = 2 * 10**9


@dataclasses.dataclass(frozen=True)
class Part:
  """A file or folder of the export.

  Attributes:
    what: it is, for the model card.
    size: bytes, about.
    write: makes it, at the path that it is given.
  """

  name: str
  what: str
  size: int
  write: Callable[[Path], Any]


class Export:
  """What a finished run becomes.

  Args:
    trained: the run.
    dtype: of L's tensors; '' for that of the weights that it started from, or that it was trained in.
    clips: how many test clips, with the answers that are to be expected, come along.

  Raises:
    ValueError: no such dtype, no such L in Hugging Face's libraries, or clips of a dataset that is no longer there.
  """

  def __init__(self, trained: Trained, dtype: str = '', clips: int = 0):
    if dtype not in ('', *DTYPES):
      raise ValueError(f'--dtype {dtype}: one of {", ".join(DTYPES)}')
    if clips < 0:
      raise ValueError(f'--clips {clips}: a number of clips, 0 for none')
    self.trained = trained
    self._dtype = dtype or _dtype_of(trained)
    self._source: ClipSource | None = None
    self._clips: list[int] = []
    if clips:
      self._source = trained.source()
      if self._source is None:
        raise ValueError(
          f'--clips {clips}: the dataset that {trained.workdir} was trained on is no longer at '
          f'{trained.environment.get("dataset")}, or another lies in its place'
        )
      self._clips = reference_clips.choose(trained, self._source, clips)

  @functools.cached_property
  def model(self) -> tuple[stages.Blueprint, nnx.State]:
    """Read when it is first asked for."""
    return self.trained.load()

  @functools.cached_property
  def _shapes(self) -> nnx.State:
    return self.trained.shapes

  @functools.cached_property
  def _decoder(self) -> DecoderConfig:
    return self.trained.decoder

  def parts(self) -> list[Part]:
    """What will be written, in that order."""
    trained, encoder = self.trained, self._encoder()
    made = [self._language_model(), *self._adapter(), self._mapper(), *self._probe(), *encoder]
    eyes = encoder[0].name if encoder else None
    texts = {
      'encoder.json': ('which f_v the features are of', encoder_facts(trained, eyes, bool(self._trains('encoder')))),
      PROMPTS: ('prompts, token ids around them, limits', prompt_facts(trained)),
      'preprocessing.json': ('what f_v is given of a video', preprocessing_facts(trained)),
    }
    made += [_text(name, what, as_json(facts)) for name, (what, facts) in texts.items()]
    if self._source is not None:
      made += self._reference_clips()
    licences = model_card.find_licences(trained)
    made.append(_text('licences.md', 'licences of the data and of the weights behind it', licences.describe()))
    contents = {part.name: part.what for part in made}
    return [
      *made,
      _text(README, 'model card', model_card.model_card(trained, licences, contents, len(self._clips))),
    ]

  def write(self, output: str | Path, overwrite: bool = False) -> list[Part]:
    """Writes the folder, whole or not at all; returns its parts with the sizes that they have.

    Raises:
      FileExistsError: something else is there, or an export that is not to be replaced.
      OSError: there is not enough room.
    """
    output = Path(output)
    refuse(output, overwrite)
    parts = self.parts()
    with replacing(output) as folder:
      folder.mkdir()
      needed, free = sum(part.size for part in parts), shutil.disk_usage(folder).free
      if needed > free:
        lying = ''.join(f'. {line}' for line in left_behind(output, folder.parent))
        raise OSError(
          f'{output}: {needed / 1e9:.1f} GB are to be written, but only {free / 1e9:.1f} GB are free{lying}'
        )
      if self._source is not None:
        # Videos of these clips may be gone; that should show before L is written.
        _ = self._seen
      for part in parts:
        part.write(folder / part.name)
      # Tensors are written for their owner alone; who may read one file here may read all.
      mode = (folder / README).stat().st_mode
      for path in folder.rglob('*'):
        if path.is_file():
          path.chmod(mode)
    return [dataclasses.replace(part, size=_size(output / part.name)) for part in parts]

  # --- L

  def _language_model(self) -> Part:
    words = local_copy(self.trained.workdir / 'tokenizer')
    kept = [path for path in sorted(words.iterdir()) if path.name != GENERATION]
    if self.trained.base is not None:
      # Who passes weights on must often pass on what they stand under.
      wanted = ('LICENSE*', 'NOTICE*', *(PROCESSORS if self._sees else ()))
      kept += sorted(path for name in wanted for path in self.trained.base.directory.glob(name) if path.is_file())
    # Where this L is none of theirs, that is said before anything is written.
    described = {'config.json': as_json(self._config()), GENERATION: as_json(generation_facts(self.trained))}
    plain = dataclasses.replace(self._decoder, lora=None, quantize='')
    shapes = nnx.state(nnx.eval_shape(lambda: Decoder(plain, nnx.Rngs(0))), nnx.Param)
    eyes = self._eyes
    size = (_count(shapes) + sum(math.prod(tensor.shape) for tensor in eyes.values())) * jnp.dtype(self._dtype).itemsize

    def write(folder: Path) -> None:
      folder.mkdir()
      for path in kept:
        shutil.copy(path, folder / path.name)
      for name, text in described.items():
        (folder / name).write_text(text, encoding='utf-8')
      count = sum(len(source.names(self._decoder.num_layers)) for source in self._sources().values())
      progress = Progress('writing L', count + len(eyes), unit='tensor')
      try:
        write_shards(folder, self._tensors(progress), SHARD)
      finally:
        progress.close()

    merged = ', adapter merged' if self._decoder.lora else ''
    what = f'L for `transformers` and vLLM ({self._dtype}{merged}), with its tokenizer; alone it sees no video'
    if self._sees:
      what = f'f_v, f_m and L as one {MODEL_TYPE} for `transformers` and vLLM ({self._dtype}{merged}), which sees video'
    return Part(f'{LANGUAGE_MODEL}/', what, size + sum(path.stat().st_size for path in kept), write)

  @property
  def _sees(self) -> bool:
    return self.trained.base is not None and self.trained.base.sees

  @functools.cached_property
  def _names(self) -> qwen2_5_vl.Names:
    """How a model that sees calls its parts: as the one that it started from."""
    assert self.trained.base is not None
    return qwen2_5_vl.names_of(Tensors(self.trained.base.directory))

  def _sources(self) -> dict[str, convert.Source]:
    """What the parameters of L are called."""
    if self._sees:
      return qwen2_5_vl.decoder_sources(self._decoder, self._names)
    return llama_family.sources(self._decoder)

  @functools.cached_property
  def _eyes(self) -> dict[str, Tensor]:
    """Tensors of a model that sees beside its L, as they were before training; none of others."""
    if not self._sees:
      return {}
    assert self.trained.base is not None
    tensors, prefix = Tensors(self.trained.base.directory), self._names.vision
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

  def _tensors(self, progress: Progress) -> Iterator[tuple[str, np.ndarray]]:
    params, dtype = self.model[1], jnp.dtype(self._dtype)
    trained = dict[str, np.ndarray]()
    if self._sees:
      trained |= convert.tensors(params['mapper'], qwen2_5_vl.merger_sources(self._names))
      if 'encoder' in params:
        trained |= convert.tensors(params['encoder'], qwen_frames.sources([f'{self._names.text}layers.']))
    for name, tensor in peft_adapter.merged_tensors(params['decoder'], self._decoder, self._sources()):
      yield name, tensor.astype(dtype)
      progress.update()
    for name, before in self._eyes.items():
      yield name, (trained[name] if name in trained else before.read()).astype(dtype)
      progress.update()

  def _config(self) -> dict[str, Any]:
    trained, text = self.trained, self.trained.text
    if trained.base is None:
      fields = llama_family.hugging_face_config(self._decoder)
      fields |= {'bos_token_id': text.words.bos_token_id, 'eos_token_id': text.words.eos_token_id}
      fields |= {'pad_token_id': text.words.pad_token_id, 'torch_dtype': self._dtype}
      return fields
    fields = json.loads((trained.base.directory / 'config.json').read_text(encoding='utf-8'))
    fields['dtype' if 'dtype' in fields else 'torch_dtype'] = self._dtype
    if origin := fields.get('_name_or_path'):
      fields['_name_or_path'] = model_card.shown(origin)
    return fields

  def _adapter(self) -> list[Part]:
    """The adapter, where it and weights that stayed as they were are the whole of L."""
    trained, base = self.trained, self.trained.base
    if base is None or self._decoder.lora is None:
      return []
    if nnx.split_state(self._trains('decoder'), nnx.LoRAParam, ...)[1]:
      return []
    low = nnx.split_state(self._shapes['decoder'], nnx.LoRAParam, ...)[0]
    size = 4 * _count(low)

    def write(folder: Path) -> None:
      adapters = nnx.split_state(self.model[1]['decoder'], nnx.LoRAParam, ...)[0]
      peft_adapter.save(folder, self._decoder, adapters, model_card.shown(trained.config.decoder.weights), base.layers)

    what = f'what LoRA added to `{model_card.shown(trained.config.decoder.weights)}`, for PEFT'
    if self._decoder.quantize:
      what += f'; it was trained beside kernels in {self._decoder.quantize}, which are not those of the base'
    return [Part(f'{ADAPTER}/', what, size, write)]

  # --- f_m, f_p, f_v

  def _mapper(self) -> Part:
    shapes = convert.flat(self._shapes['mapper'])
    sources = mapper.sources('whitening/mean' in shapes)
    size = 4 * _count(self._shapes['mapper'])

    def write(path: Path) -> None:
      write_tensors(path, dict(convert.tensors(self.model[1]['mapper'], sources)), {'format': 'pt'})

    steps = 'fc2(gelu(fc1(x)))'
    if 'whitening/mean' in shapes:
      steps = 'fc2(gelu(fc1((x − whitening.mean) @ whitening.matrix)))'
    return Part('mapper.safetensors', f'f_m, from features to tokens of L: {steps}', size, write)

  def _probe(self) -> list[Part]:
    probe = self.trained.probe
    if probe is None:
      return []
    tensors = {'weight': np.asarray(probe.kernel).T, 'bias': np.asarray(probe.bias)}
    size = sum(tensor.nbytes for tensor in tensors.values())
    what = 'f_p, a linear layer from the mean video token behind f_m to the level'
    return [Part('probe.safetensors', what, size, lambda path: write_tensors(path, tensors, {'format': 'pt'}))]

  def _encoder(self) -> list[Part]:
    """f_v, where nobody else has it: it trained too, or comes from this project."""
    trained, eyes = self.trained, self.trained.config.encoder
    what = 'f_v, for `crosstrainer_jax`'
    if self._trains('encoder'):
      size = 4 * _count(self._shapes['encoder'])

      def write(path: Path) -> None:
        params = self.model[1]['encoder']
        encoders.save(path, trained.encoder.name, trained.encoder.config, params, {}, dtype='float32')

      return [Part(ENCODER, f'{what}, as it was trained with the rest', size, write)]
    weights = encoders.shipped_path() if eyes.weights == 'shipped' else hub.locate(eyes.weights, eyes.revision)
    # Those of the hub are had from there.
    if not encoders.is_saved(weights):
      return []
    return [Part(ENCODER, what, weights.stat().st_size, lambda path: shutil.copyfile(weights, path))]

  def _trains(self, part: str) -> nnx.State:
    """The parameters of a part that training has changed."""
    trained = stages.divide(self._shapes, self.trained.config.training.frozen)[0]
    return nnx.State({part: trained[part]} if part in trained else {})

  # --- To check a deployment with

  @functools.cached_property
  def _seen(self) -> reference_clips.Seen:
    """The clips that come along, looked at."""
    assert self._source is not None
    params = None if self.trained.joint is None else self.model[1]
    return reference_clips.look(self.trained, params, self._source, self._clips)

  def _reference_clips(self) -> list[Part]:
    card, count = self.trained.card, len(self._clips)
    tokens = count * card.views * card.seconds * self.trained.encoder.each
    limits = self.trained.config.eval

    def answers(path: Path) -> None:
      reference_clips.write_answers(path, self.trained, *self.model, self._seen)

    return [
      Part(
        reference_clips.CLIPS,
        f'features of {count} test clips',
        tokens * (2 * self.trained.encoder.config.feature_dim + 1),
        lambda path: self._seen.write(path),
      ),
      Part(
        reference_clips.EXPECTED,
        'what crosstrainer_jax answers to them, as token ids and as text',
        16 * count * (limits.max_attribute_tokens + limits.max_feedback_tokens),
        answers,
      ),
    ]


def refuse(output: Path, overwrite: bool) -> None:
  """Raises FileExistsError where `output` must not be replaced."""
  if output.is_symlink():
    raise FileExistsError(f'{output} is a symbolic link: give the folder itself, {os.path.realpath(output)}')
  if not output.exists() or (output.is_dir() and not any(output.iterdir())):
    return
  if not (output / PROMPTS).is_file():
    raise FileExistsError(f'{output} exists, and is no export: choose another --output')
  if not overwrite:
    raise FileExistsError(f'{output} holds an export: choose another --output, or replace it with --overwrite')


def left_behind(output: Path, but: Path | None = None) -> list[str]:
  """What to say of the folders that killed exports to `output` have left; none of `but`, which is being written."""
  return [
    f'{path} ({_size(path) / 1e9:.1f} GB) was left by an export that was killed, or is of one that still runs: '
    'where none runs, delete it'
    for path in leftovers(output)
    if path != but
  ]


def _dtype_of(trained: Trained) -> str:
  if trained.base is None:
    return str(trained.config.decoder.param_dtype)
  tensors = Tensors(trained.base.directory)
  stored = tensors[next(name for name in tensors if name.endswith('embed_tokens.weight'))].dtype.name
  return stored if stored in DTYPES else 'float32'


def _count(shapes: nnx.State) -> int:
  """Numbers of a state."""
  return sum(math.prod(leaf.shape) for leaf in convert.flat(shapes).values())


def _size(path: Path) -> int:
  return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob('*')))


def _text(name: str, what: str, text: str) -> Part:
  content = (text.rstrip() + '\n').encode()
  return Part(name, what, len(content), lambda path: path.write_bytes(content))
