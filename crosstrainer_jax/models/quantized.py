"""A frozen kernel in 4 bits, under LoRA's adapters (QLoRA, Dettmers et al. 2023); qwix quantises it.

A kernel [inputs, outputs] becomes two parameters:

    kernel/qvalue    uint8[inputs / 2, outputs], two numbers of an output in a byte
    kernel/scale     param_dtype[inputs / tile, outputs], one for each `tile` inputs of an output

With tiles of 64, as in the paper, and scales in bfloat16 a number of the kernel takes 4.25 bits. Scales are not
quantised a second time. JAX's own types of 4 bits do not serve: XLA (jaxlib 0.10, CPU) takes the stack of all layers to
8 bits before a scan over them begins, and keeps that beside it.

A kernel is whole only while it is multiplied. Backward it is made again rather than kept; by JAX's own rule for `@` a
scan over layers would keep every layer's.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from crosstrainer_jax.models.lora import LoRALinear
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.convert import Source
from crosstrainer_jax.weights.tensors import Tensors

if TYPE_CHECKING:
  import qwix

# Our names -> those of qwix. NF4's 16 values are quantiles of a normal distribution, int4's lie evenly.
KINDS: Mapping[str, Any] = {'nf4': 'nf4', 'int4': jnp.int4}


def _qwix() -> Any:
  try:
    import qwix
  except ImportError:
    raise ValueError("a quantised decoder needs qwix: pip install 'crosstrainer_jax[qlora]'") from None
  return qwix


def quantize(kernel: jax.Array, kind: str, tile: int, scale_dtype: Any = jnp.float32) -> 'qwix.QArray':
  """`kernel` float[inputs, outputs] in 4 bits, in float32; `tile` numbers of one output share a scale.

  Raises:
    ValueError: `tile` does not divide the inputs, or qwix is not installed.
  """
  return _qwix().quantize(
    kernel.astype(jnp.float32), KINDS[kind], tiled_axes={0: tile}, channelwise_axes=(1,), scale_dtype=scale_dtype
  )


def pack(qvalue: jax.Array) -> jax.Array:
  """uint8[inputs / 2, outputs] of numbers of 4 bits [inputs, outputs]: of two neighbours the first in the low bits."""
  low, high = jnp.moveaxis(qvalue.astype(jnp.uint8).reshape(-1, 2, qvalue.shape[1]), 1, 0)
  return low & 15 | high << 4


def unpack(pairs: jax.Array, kind: str) -> jax.Array:
  """What was packed, a byte for each; int4 with its sign."""
  both = jnp.stack([pairs << 4, pairs], axis=1).reshape(-1, pairs.shape[1])
  # The shift fills in the sign where there is one.
  return jax.lax.bitcast_convert_type(both, jnp.int8 if kind == 'int4' else jnp.uint8) >> 4


def dequantize(qvalue: jax.Array, scale: jax.Array, kind: str, dtype: Any = jnp.float32) -> jax.Array:
  """The kernel dtype[inputs, outputs] of the two parameters, computed in float32 and rounded once."""
  qwix = _qwix()
  packed = qwix.QArray(unpack(qvalue, kind), scale.astype(jnp.float32), qtype=KINDS[kind])
  return qwix.dequantize(packed).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def matmul(x: jax.Array, qvalue: jax.Array, scale: jax.Array, kind: str) -> jax.Array:
  """dtype[..., outputs] = `x` dtype[..., inputs] @ the kernel, which gets no gradient."""
  return x @ dequantize(qvalue, scale, kind, x.dtype)


def _matmul_forward(x: jax.Array, qvalue: jax.Array, scale: jax.Array, kind: str) -> tuple[jax.Array, Any]:
  return matmul(x, qvalue, scale, kind), (qvalue, scale)


def _matmul_backward(kind: str, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, None, None]:
  return g @ dequantize(*kept, kind, g.dtype).T, None, None


matmul.defvjp(_matmul_forward, _matmul_backward)


class QuantizedKernel(nnx.Module):
  """What stands in a linear layer in place of its kernel.

  Args:
    kernel: float[inputs, outputs], which is quantised; its dtype becomes that of the scales.
    kind: of `KINDS`.
    axes: logical axes of the kernel; the scales have them too.
  """

  def __init__(self, kernel: jax.Array, kind: str, tile: int, axes: tuple[str | None, ...]) -> None:
    self.kind = kind
    packed = quantize(kernel, kind, tile, kernel.dtype)
    self.qvalue = nnx.Param(pack(packed.qvalue), logical_axes=axes)
    self.scale = nnx.Param(packed.scale, logical_axes=axes)

  def __call__(self, x: jax.Array) -> jax.Array:
    return matmul(x, self.qvalue[...], self.scale[...], self.kind)

  def dequantized(self) -> jax.Array:
    """float32[inputs, outputs], or a stack of them: what `lora.merged` takes."""
    restore = functools.partial(dequantize, kind=self.kind)
    for _ in self.qvalue.shape[2:]:
      restore = jax.vmap(restore)
    return restore(self.qvalue[...], self.scale[...])


class QuantizedLinear(nnx.Linear):
  """`nnx.Linear` whose kernel is held in 4 bits; settings as there."""

  kernel: Any

  def __init__(self, inputs: int, outputs: int, *, kind: str, tile: int, rngs: nnx.Rngs, **kwargs: Any) -> None:
    super().__init__(inputs, outputs, rngs=rngs, **kwargs)
    axes = kwargs.get('kernel_metadata', {}).get('logical_axes', (None, None))
    self.kernel = QuantizedKernel(self.kernel[...], kind, tile, axes)

  def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:
    x = x if self.dtype is None else x.astype(self.dtype)
    y = self.kernel(x)
    return y if self.bias is None else y + self.bias[...].astype(y.dtype)


class QuantizedLoRALinear(LoRALinear, QuantizedLinear):
  """QLoRA: an adapter beside a kernel in 4 bits. Settings are those of both."""


def load(
  tensors: Tensors, sources: Mapping[str, Source], like: nnx.State, kind: str, ignored: Sequence[str] = ()
) -> nnx.State:
  """`convert.load` of a state with quantised kernels, of which `sources` knows the kernels.

  A layer's kernel is read in float32 to where it lies on the mesh, quantised there and written into the stack, before
  the next is read.

  Raises:
    ValueError: as `convert.load`.
  """
  wanted = convert.flat(like)
  kernels = [path.removesuffix('/qvalue') for path in wanted if path.endswith('/qvalue')]
  found = {path: wanted[path] for path in sources if path not in kernels}
  whole = {path: _whole(wanted[f'{path}/qvalue'].get_value()) for path in kernels}
  convert.check(tensors, sources, found | whole, ignored)
  others = nnx.from_flat_state([(tuple(path.split('/')), variable) for path, variable in found.items()])
  found = convert.flat(convert.load(tensors, {path: sources[path] for path in found}, others, ['.']))
  for path in kernels:
    names = (f'{path}/qvalue', f'{path}/scale')
    qvalue, scale = (wanted[name].get_value() for name in names)
    values = _load_kernel(tensors, sources[path], qvalue, scale, kind)
    found |= {name: wanted[name].replace(value) for name, value in zip(names, values, strict=True)}
  return nnx.from_flat_state([(path, found['/'.join(map(str, path))]) for path, _ in nnx.to_flat_state(like)])


def _load_kernel(
  tensors: Tensors, source: Source, qvalue: jax.ShapeDtypeStruct, scale: jax.ShapeDtypeStruct, kind: str
) -> tuple[jax.Array, jax.Array]:
  """A stack of kernels: the abstract `qvalue` and `scale`, each with `layers` as its first axis, filled in turn."""
  places = (_place(qvalue), _place(scale))
  layers, *shape = _whole(qvalue).shape
  kernel = jax.ShapeDtypeStruct(tuple(shape), jnp.float32, sharding=_of_one_layer(places[0]))
  write = _writer(kind, places)
  stacks = (
    jnp.zeros(qvalue.shape, qvalue.dtype, device=places[0]),
    jnp.zeros(scale.shape, scale.dtype, device=places[1]),
  )
  for layer in range(layers):
    one = {'kernel': Source(source.name.format(layer), source.axes)}
    read = convert.load(tensors, one, nnx.State({'kernel': nnx.Param(kernel)}), ['.'])
    # JAX would run ahead, and hold many layers at once.
    stacks = jax.block_until_ready(write(stacks, convert.flat(read)['kernel'].get_value(), jnp.int32(layer)))
  return stacks


@functools.cache
def _writer(kind: str, places: tuple[Any, Any]) -> Any:
  """What quantises one layer's kernel and writes it into both stacks, in the same memory."""

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=places)
  def write(stacks: tuple[jax.Array, jax.Array], kernel: jax.Array, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
    qvalue, scale = stacks
    packed = quantize(kernel, kind, kernel.shape[0] // scale.shape[1], scale.dtype)
    update = jax.lax.dynamic_update_index_in_dim
    return update(qvalue, pack(packed.qvalue), layer, 0), update(scale, packed.scale, layer, 0)

  return write


def _whole(qvalue: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  """The shape of the kernels that `qvalue` [layers, inputs / 2, outputs] holds."""
  layers, pairs, outputs = qvalue.shape
  return jax.ShapeDtypeStruct((layers, 2 * pairs, outputs), jnp.float32)


def _place(array: jax.ShapeDtypeStruct) -> Any:
  return array.sharding or SingleDeviceSharding(jax.devices()[0])


def _of_one_layer(place: Any) -> Any:
  return NamedSharding(place.mesh, PartitionSpec(*place.spec[1:])) if isinstance(place, NamedSharding) else place
