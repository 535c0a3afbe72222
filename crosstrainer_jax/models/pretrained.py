"""L as `config.decoder` describes it: of sizes of its own and random weights, or from a directory of the hub."""

import dataclasses
from pathlib import Path
from typing import Any

import ml_collections
from flax import nnx

from crosstrainer_jax.models import llama_family, peft_adapter, quantized
from crosstrainer_jax.models.crosstrainer import decoder_config
from crosstrainer_jax.models.lora import LoRAConfig
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
    if self.config.quantize:
      loaded = quantized.load(tensors, sources, rest, self.config.quantize, ignored)
    else:
      loaded = convert.load(tensors, sources, rest, ignored)
    if self.adapter is None:
      return loaded
    return nnx.merge_state(loaded, peft_adapter.load(self.adapter, self.config, adapters))


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
  if adapter is not None:
    peft_adapter.check(adapter, lora)
  return Pretrained(directory, llama_family.read_config(directory, lora=lora, **settings), adapter)


def fresh(config: ml_collections.ConfigDict, vocab_size: int) -> Any:
  """The config of a decoder that starts from nothing, with the sizes of `config.decoder`."""
  settings = config.decoder.to_dict()
  return decoder_config(settings.pop('name'), {'vocab_size': vocab_size, 'lora': lora_config(config), **settings})


def lora_config(config: ml_collections.ConfigDict) -> LoRAConfig | None:
  """Adapters of L by `config.lora`; rank 0 is none."""
  settings = config.lora.to_dict()
  settings.pop('weights', '')
  return LoRAConfig(**settings) if settings['rank'] else None
