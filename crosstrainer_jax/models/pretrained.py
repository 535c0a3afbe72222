"""L and f_m as a config describes them: of sizes of their own and random weights, or from a directory of the hub.

L may be the decoder of Qwen2.5-VL, and f_m its merger: the same modules, under other names in the files.
"""

import dataclasses
from pathlib import Path
from typing import Any

import ml_collections
from flax import nnx

from crosstrainer_jax.models import llama_family, peft_adapter, quantized, qwen2_5_vl
from crosstrainer_jax.models.crosstrainer import decoder_config
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.peft_adapter import Layer
from crosstrainer_jax.models.qwen2_5_vl import MODEL_TYPE
from crosstrainer_jax.weights import convert, hub
from crosstrainer_jax.weights.tensors import Tensors


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A decoder whose weights come from a directory.

  Attributes:
    directory: of the hub's form, with `config.json`, weights and tokenizer.
    config: what `config.json` says, with our own settings.
    adapter: a directory of PEFT that the adapters begin from; None where they begin as LoRA does.
  """

  directory: Path
  config: Any
  adapter: Path | None = None

  @property
  def fingerprint(self) -> str:
    """Names the weights."""
    whole = Tensors(self.directory).fingerprint()
    return whole if self.adapter is None else f'{whole}+{peft_adapter.tensors(self.adapter).fingerprint()}'

  def load(self, like: nnx.State) -> nnx.State:
    """The parameters of the decoder that are read, each at its place.

    Args:
      like: abstract. Adapters may be among it; they are left out where no directory has them.
    """
    adapters, rest = nnx.split_state(like, nnx.LoRAParam, ...)
    sources, ignored = llama_family.sources(self.config), llama_family.ignored(self.config)
    tensors = Tensors(self.directory)
    if self.sees:
      sources = qwen2_5_vl.decoder_sources(self.config, qwen2_5_vl.names_of(tensors))
      ignored = (*ignored, qwen2_5_vl.VISUAL)
    if self.config.quantize:
      loaded = quantized.load(tensors, sources, rest, self.config.quantize, ignored)
    else:
      loaded = convert.load(tensors, sources, rest, ignored)
    if self.adapter is None:
      return loaded
    return nnx.merge_state(loaded, peft_adapter.load(self.adapter, self.config, adapters, self.layers))

  @property
  def sees(self) -> bool:
    """Whether it is the decoder of a model that sees pictures."""
    return bool(self.config.mrope_section)

  @property
  def layers(self) -> tuple[Layer, ...]:
    """Those that may be adapted."""
    return qwen2_5_vl.decoder_layers() if self.sees else peft_adapter.LAYERS


def find(config: ml_collections.ConfigDict) -> Pretrained | None:
  """What `config.decoder.weights` and `config.lora.weights` name; None where the decoder starts from nothing.

  Raises:
    FileNotFoundError, ValueError: it is not there, or not supported.
  """
  settings = config.decoder.to_dict()
  if not settings.get('weights'):
    return None
  directory = hub.locate(settings.pop('weights'), settings.pop('revision', ''))
  if not settings.get('max_position', 1):
    del settings['max_position']
  lora, weights = lora_config(config), config.lora.get('weights', '')
  adapter = hub.locate(weights) if weights else None
  found = Pretrained(directory, read_config(directory, lora=lora, **settings), adapter)
  if adapter is not None:
    peft_adapter.check(adapter, lora, found.layers)
  return found


def read_config(directory: str | Path, **settings: Any) -> Any:
  """The config of the L in a directory; arguments and errors as of `llama_family.read_config`."""
  path, fields = llama_family.read_fields(directory)
  of_family = qwen2_5_vl.decoder_config if fields.get('model_type') == MODEL_TYPE else llama_family.decoder_config
  return of_family(fields, str(path), **settings)


def sees(name: str | Path) -> bool:
  """Whether a directory or repository of the hub holds a model that sees pictures.

  Raises:
    FileNotFoundError: nothing is there under this name.
  """
  return llama_family.read_fields(hub.locate(name))[1].get('model_type') == MODEL_TYPE


@dataclasses.dataclass(frozen=True)
class PretrainedMapper:
  """f_m from a directory of Qwen2.5-VL: its merger.

  Attributes:
    inputs, outputs: widths of the features that it takes and of the tokens that it makes.
  """

  directory: Path
  inputs: int
  outputs: int

  @property
  def fingerprint(self) -> str:
    """Names the weights."""
    return Tensors(self.directory).fingerprint()

  @property
  def hidden(self) -> int:
    """Width between its two layers."""
    return self.inputs

  def load(self, like: nnx.State) -> nnx.State:
    """Its parameters, each at its place; `like` is abstract."""
    tensors = Tensors(self.directory)
    return convert.load(tensors, qwen2_5_vl.merger_sources(qwen2_5_vl.names_of(tensors)), like, qwen2_5_vl.NOT_MERGER)


def find_mapper(config: ml_collections.ConfigDict) -> PretrainedMapper | None:
  """What `config.mapper.weights` names; None where f_m starts from nothing.

  Raises:
    FileNotFoundError, ValueError: it is not there, or has no merger.
  """
  if not (weights := config.mapper.get('weights', '')):
    return None
  # One model, where L is of it too, is one commit of a repository.
  same = weights == config.decoder.get('weights', '')
  directory = hub.locate(weights, config.decoder.get('revision', '') if same else '')
  whole = qwen2_5_vl.read_config(directory)
  return PretrainedMapper(directory, whole.vision.feature_dim, whole.text.hidden_size)


def fresh(config: ml_collections.ConfigDict, vocab_size: int) -> Any:
  """The config of a decoder that starts from nothing, with the sizes of `config.decoder`."""
  settings = config.decoder.to_dict()
  return decoder_config(settings.pop('name'), {'vocab_size': vocab_size, 'lora': lora_config(config), **settings})


def lora_config(config: ml_collections.ConfigDict) -> LoRAConfig | None:
  """Adapters of L by `config.lora`; rank 0 is none."""
  settings = config.lora.to_dict()
  settings.pop('weights', '')
  return LoRAConfig(**settings) if settings['rank'] else None
