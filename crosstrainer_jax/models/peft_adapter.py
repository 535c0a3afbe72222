"""Adapters in PEFT's directory format: `adapter_config.json` and `adapter_model.safetensors` (or `.bin`)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from crosstrainer_jax.models import quantized
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import linears
from crosstrainer_jax.models.llama_family import sources as decoder_sources
from crosstrainer_jax.models.lora import NAMES, LoRAConfig, merged
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.convert import LINEAR, Source
from crosstrainer_jax.weights.files import write_tensors
from crosstrainer_jax.weights.tensors import Tensors

CONFIG, WEIGHTS = 'adapter_config.json', ('adapter_model.safetensors', 'adapter_model.bin')

# Settings of PEFT that change the result, with the values that do not (the first is what an absent one means). Others
# of its settings change nothing about an adapter that is trained already.
SUPPORTED: dict[str, tuple[Any, ...]] = {
  'alora_invocation_tokens': (None,),
  'alpha_pattern': ({}, None),
  'arrow_config': (None,),
  'bias': ('none',),
  'corda_config': (None,),
  'exclude_modules': (None, [], ''),
  'fan_in_fan_out': (False,),
  # how A and B began; with any other beginning (PiSSA, OLoRA, CorDA, LoftQ, …) PEFT changes W when it opens the adapter
  'init_lora_weights': (True, False, None, 'gaussian', 'eva', 'orthogonal'),
  'kasa_config': (None,),
  'layer_replication': (None,),
  'layers_to_transform': (None,),
  'lora_bias': (False,),
  'modules_to_save': (None, []),
  'monteclora_config': (None,),
  'rank_pattern': ({}, None),
  'target_parameters': (None, []),
  'trainable_token_indices': (None,),
  'use_bdlora': (None, False),
  'use_dora': (False,),
  'use_qalora': (False,),
}


class Layer(NamedTuple):
  """A stack of linear layers that may be adapted.

  Attributes:
    path: in the state of the model.
    target: what `LoRAConfig.targets` is looked for in.
    name: there; `{}` is the number of the layer.
  """

  path: str
  target: str
  name: str


# Those of a `Decoder`.
LAYERS = tuple(Layer(f'layers/{path}', path, f'model.layers.{{}}.{name}') for path, name in linears().items())


class Adaptable(Protocol):
  """The config of a model that may have adapters."""

  @property
  def lora(self) -> LoRAConfig | None:
    """Of all of them."""


def sources(config: Adaptable, layers: Sequence[Layer] = LAYERS) -> dict[str, Source]:
  """Where each parameter of the adapters of a model comes from.

  Args:
    layers: of the model; by default it is a `Decoder`.
  """
  found = {}
  for layer in layers:
    if config.lora is not None and config.lora.adapts(layer.target):
      for ours, theirs in (('lora_a', 'lora_A'), ('lora_b', 'lora_B')):
        found[f'{layer.path}/{ours}'] = Source(f'base_model.model.{layer.name}.{theirs}.weight', LINEAR)
  return found


def read_config(directory: str | Path, layers: Sequence[Layer] = LAYERS) -> LoRAConfig:
  """The adapter's settings.

  Args:
    layers: of the model that it adapts.

  Raises:
    FileNotFoundError, ValueError: no adapter there, or one that does something that is not supported here.
  """
  path = Path(directory) / CONFIG
  if not path.is_file():
    raise FileNotFoundError(f'{directory}: no adapter of PEFT here ({CONFIG} is missing)')
  try:
    fields = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  if fields.get('peft_type') != 'LORA':
    raise ValueError(f'{path}: peft_type = {fields.get("peft_type")!r} is not supported; supported: LORA')
  for name, values in SUPPORTED.items():
    if fields.get(name, values[0]) not in values:
      listed = ', '.join(map(repr, values))
      raise ValueError(f'{path}: {name} = {fields[name]!r} is not supported; supported: {listed}')
  rank, alpha = fields['r'], float(fields['lora_alpha'])
  if fields.get('use_rslora'):
    # Kalajdzievski 2023: scaled by α / √r.
    alpha *= rank**0.5
  targets = [layer.target for layer in layers if _is_target(fields['target_modules'], layer.name)]
  if not targets:
    known = sorted(layer.name.partition('{}.')[2] for layer in layers)
    raise ValueError(f'{path}: target_modules = {fields["target_modules"]!r} names none of {known}')
  return LoRAConfig(rank, alpha, fields.get('lora_dropout', 0.0), f'^({"|".join(targets)})$')


def check(directory: str | Path, lora: LoRAConfig | None, layers: Sequence[Layer] = LAYERS) -> None:
  """Whether the settings are those of the adapter; dropout belongs to training, and is ours to choose.

  Raises:
    FileNotFoundError, ValueError: they are not, or there is no adapter that is supported; the message says which
      settings it needs.
  """
  there = read_config(directory, layers)
  wanted = there.rank, there.alpha, _targets(there, layers)
  if lora is None or (lora.rank, lora.alpha, _targets(lora, layers)) != wanted:
    raise ValueError(
      f'{Path(directory) / CONFIG}: the adapter has other settings than config.lora: set '
      f'--config.lora.rank={there.rank} --config.lora.alpha={there.alpha} --config.lora.targets={there.targets!r}'
    )


def _targets(lora: LoRAConfig, layers: Sequence[Layer]) -> list[str]:
  return [layer.target for layer in layers if lora.adapts(layer.target)]


def _is_target(targets: str | list[str], name: str) -> bool:
  """PEFT's rule: a text is a pattern for the whole name of a layer, or `all-linear`; of a list, ends of names."""
  if isinstance(targets, str):
    return targets == 'all-linear' or re.fullmatch(targets, name.format(0)) is not None
  return any(name.endswith(f'.{target}') for target in targets)


def _target_modules(lora: LoRAConfig, layers: Sequence[Layer]) -> str | list[str]:
  """What PEFT is told to adapt: ends of names in a decoder; in a larger model, where others end so too, a pattern."""
  adapted = [layer.name for layer in layers if lora.adapts(layer.target)]
  if layers == LAYERS:
    return sorted(name.rpartition('.')[2] for name in adapted)
  return '|'.join(re.escape(name).replace(r'\{\}', r'\d+') for name in adapted)


def tensors(directory: str | Path) -> Tensors:
  """The tensors of an adapter.

  Raises:
    FileNotFoundError: there are none.
  """
  found = [path for name in WEIGHTS if (path := Path(directory) / name).is_file()]
  if not found:
    raise FileNotFoundError(f'{directory}: no weights of an adapter here ({" or ".join(WEIGHTS)})')
  return Tensors(found[0])


def load(directory: str | Path, config: Adaptable, like: nnx.State, layers: Sequence[Layer] = LAYERS) -> nnx.State:
  """The parameters of the adapters, each at its place.

  Args:
    config: of the model, with `lora` from `read_config`.
    like: abstract state of the adapters alone.
    layers: of the model.
  """
  return convert.load(tensors(directory), sources(config, layers), like)


def merged_tensors(
  decoder: nnx.State, config: DecoderConfig, names: Mapping[str, Source] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
  """The tensors of a decoder as a plain checkpoint has them: W + α/r · A·B where there are adapters.

  One at a time, so that no second copy of L is ever held. What was merged, or held in 4 bits, is float32; the rest is
  as it is.

  Args:
    decoder: its parameters, adapters included.
    names: what they are called there; by default as in a decoder that stands alone.
  """
  variables = convert.flat(decoder)

  def read(path: str, layer: int | None) -> jax.Array:
    def part(name: str) -> jax.Array:
      value: jax.Array = variables[name][...]
      return value if layer is None else value[layer]

    if f'{path}/qvalue' in variables:
      value = quantized.dequantize(part(f'{path}/qvalue'), part(f'{path}/scale'), config.quantize)
    else:
      value = part(path)
    place, _, leaf = path.rpartition('/')
    if config.lora is None or leaf != 'kernel' or f'{place}/lora_a' not in variables:
      return value
    a, b = (part(f'{place}/{name}') for name in NAMES)
    return merged(value.astype(jnp.float32), a, b, config.lora.scale)

  return convert.tensors(decoder, names or decoder_sources(config), read)


def save(
  directory: str | Path, config: Adaptable, adapters: nnx.State, base: str, layers: Sequence[Layer] = LAYERS
) -> None:
  """Writes an adapter that PEFT can open.

  Args:
    adapters: the state of the adapters alone.
    base: name or path of the model that it adapts.
    layers: of that model.
  """
  lora = config.lora
  assert lora is not None
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_tensors(directory / WEIGHTS[0], dict(convert.tensors(adapters, sources(config, layers))), {'format': 'pt'})
  fields = {
    'base_model_name_or_path': base,
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
    'lora_alpha': lora.alpha,
    'lora_dropout': lora.dropout,
    'peft_type': 'LORA',
    'r': lora.rank,
    'target_modules': _target_modules(lora, layers),
    'task_type': 'CAUSAL_LM',
  }
  (directory / CONFIG).write_text(json.dumps(fields, indent=2) + '\n')
