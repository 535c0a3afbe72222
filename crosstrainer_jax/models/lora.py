"""Low-rank adaptation (Hu et al. 2021): y = x·W + α/r · dropout(x)·A·B, where W is frozen and A and B are trained.

The layers of Flax and qwix do not serve: `nnx.LoRA` (flax 0.12) has neither α nor dropout, qwix 0.1.8 fails on scanned
layers and keeps its dropout on in evaluation, and both draw A 2.45 times as wide as PEFT does.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.matmul import matmul

# Parameters of an adapter, as they end in the path of a parameter.
NAMES = ('lora_a', 'lora_b')


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
  """Which linear layers are adapted, and how; the defaults are the paper's (section 4.1).

  Attributes:
    rank: r.
    alpha: α; the adapter's output is scaled by α / r.
    dropout: of the adapter's input, in training.
    targets: regular expression, found in the path of a linear layer in a block, such as 'attention/q_proj'. The paper
      names no targets; the default is every linear layer of L but the head, as in LLaVA.

  Raises:
    ValueError: a field is not possible; the message names it.
  """

  rank: int = 128
  alpha: float = 256.0
  dropout: float = 0.05
  targets: str = '_proj$'

  def __post_init__(self) -> None:
    if self.rank < 1:
      raise ValueError(f'lora: rank must be at least 1, not {self.rank}')
    if not 0.0 <= self.dropout < 1.0:
      raise ValueError(f'lora: dropout must lie in [0, 1), not {self.dropout}')
    try:
      re.compile(self.targets)
    except re.error as error:
      raise ValueError(f'lora: targets={self.targets!r} is no regular expression ({error})') from error

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def adapts(self, path: str) -> bool:
    """Whether the linear layer at `path` gets an adapter."""
    return re.search(self.targets, path) is not None


class LoRALinear(nnx.Linear):
  """`nnx.Linear` with an adapter beside it. B starts at zero, so that at first nothing changes.

  Args:
    lora: of the adapter, whose parameters are float32.
    rngs: `params`, and `dropout` where the adapter has dropout.
    kwargs: of nnx.Linear; `kernel_metadata` may hold `logical_axes`, which the adapter takes over.
  """

  def __init__(self, inputs: int, outputs: int, *, lora: LoRAConfig, rngs: nnx.Rngs, **kwargs: Any) -> None:
    super().__init__(inputs, outputs, rngs=rngs, **kwargs)
    self.scale = lora.scale
    axes = kwargs.get('kernel_metadata', {}).get('logical_axes', (None, None))
    # The rank is too short to be split, so that the other side must be, over all that there is.
    axes = [axis if axis in (None, 'embed') else 'long' for axis in axes]
    # PEFT's kaiming_uniform(a=√5): between ± 1/√inputs.
    first = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
    self.lora_a = nnx.LoRAParam(first(rngs.params(), (inputs, lora.rank), jnp.float32), logical_axes=(axes[0], None))
    self.lora_b = nnx.LoRAParam(jnp.zeros((lora.rank, outputs), jnp.float32), logical_axes=(None, axes[1]))
    # Without dropout no random stream is made, so that the state holds parameters only.
    self.dropout = nnx.Dropout(lora.dropout, rngs=rngs if lora.dropout else None)

  def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
    """dtype[..., outputs] of `x` float[..., inputs]; `deterministic=False` switches dropout on."""
    dtype = x.dtype if self.dtype is None else self.dtype
    low = matmul(self.dropout(x, deterministic=deterministic).astype(dtype), self.lora_a[...].astype(dtype))
    return super().__call__(x) + matmul(low, self.lora_b[...].astype(dtype)) * self.scale


def apply(linear: nnx.Linear, x: jax.Array, deterministic: bool) -> jax.Array:
  """dtype[..., outputs] of a linear layer that may have an adapter."""
  return linear(x, deterministic) if isinstance(linear, LoRALinear) else linear(x)


class Adapted(nnx.Module):
  """A linear layer that was there before, and an adapter beside it, without dropout; of stacked layers, one for each.

  Args:
    linear: with a kernel [..., inputs, outputs].
  """

  def __init__(self, linear: nnx.Linear, lora: LoRAConfig, rngs: nnx.Rngs) -> None:
    *stack, inputs, outputs = linear.kernel[...].shape
    self.linear, self.scale = linear, lora.scale
    first = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform', batch_axis=tuple(range(len(stack))))
    axes = (None,) * len(stack)
    self.lora_a = nnx.LoRAParam(
      first(rngs.params(), (*stack, inputs, lora.rank), jnp.float32), logical_axes=(*axes, None, None)
    )
    self.lora_b = nnx.LoRAParam(jnp.zeros((*stack, lora.rank, outputs)), logical_axes=(*axes, None, None))

  def __call__(self, x: jax.Array) -> jax.Array:
    """float[..., outputs] of float[..., inputs]."""
    y = self.linear(x)
    low = matmul(x.astype(y.dtype), self.lora_a[...].astype(y.dtype))
    return y + matmul(low, self.lora_b[...].astype(y.dtype)) * self.scale


def adapt(module: nnx.Module, lora: LoRAConfig, rngs: nnx.Rngs) -> int:
  """Puts an adapter beside every linear layer of a finished module whose path the config adapts; returns how many.

  Raises:
    ValueError: there is none.
  """
  found = [
    (parent, name, layer)
    for path, parent in nnx.iter_modules(module)
    for name, layer in vars(parent).items()
    if isinstance(layer, nnx.Linear) and lora.adapts('/'.join(map(str, (*path, name))))
  ]
  if not found:
    raise ValueError(f'lora: no linear layer of {type(module).__name__} is called like {lora.targets!r}')
  for parent, name, layer in found:
    setattr(parent, name, Adapted(layer, lora, rngs))
  return len(found)


def merged(kernel: jax.Array, lora_a: jax.Array, lora_b: jax.Array, scale: float) -> jax.Array:
  """W + α/r · A·B: one matrix (or a stack of them) that does what both did. Summed in float32, given in W's dtype."""
  return (kernel.astype(jnp.float32) + scale * (lora_a @ lora_b)).astype(kernel.dtype)
