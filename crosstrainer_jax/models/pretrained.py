"""L as `config.decoder` describes it: of sizes of its own and random weights, or from a directory of the hub."""

import dataclasses
from pathlib import Path
from typing import Any

import ml_collections
from flax import nnx

from crosstrainer_jax.models import llama_family, quantized
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
  """

  directory: Path
  config: Any

  @property
  def fingerprint(self) -> str:
    """Names the weights."""
    return Tensors(self.directory).fingerprint()

  def load(self, like: nnx.State) -> nnx.State:
    """The parameters of the decoder, each at its place; `like` is abstract and has no adapters."""
    sources, ignored = llama_family.sources(self.config), llama_family.ignored(self.config)
    if self.config.quantize:
      return quantized.load(Tensors(self.directory), sources, like, self.config.quantize, ignored)
    return convert.load(Tensors(self.directory), sources, like, ignored)


def find(config: ml_collections.ConfigDict) -> Pretrained | None:
  """What `config.decoder.weights` names; None where the decoder starts from nothing.

  Raises:
    FileNotFoundError, ValueError: it is not there, or not supported.
  """
  settings = config.decoder.to_dict()
  if not settings.get('weights'):
    return None
  directory = hub.locate(settings.pop('weights'), settings.pop('revision', ''))
  if not settings.get('max_position', 1):
    del settings['max_position']
  return Pretrained(directory, llama_family.read_config(directory, lora=lora_config(config), **settings))


def fresh(config: ml_collections.ConfigDict, vocab_size: int) -> Any:
  """The config of a decoder that starts from nothing, with the sizes of `config.decoder`."""
  settings = config.decoder.to_dict()
  return decoder_config(settings.pop('name'), {'vocab_size': vocab_size, 'lora': lora_config(config), **settings})


def lora_config(config: ml_collections.ConfigDict) -> LoRAConfig | None:
  """Adapters of L by `config.lora`; rank 0 is none."""
  settings = config.lora.to_dict()
  return LoRAConfig(**settings) if settings['rank'] else None
