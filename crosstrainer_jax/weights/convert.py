"""Weights of another program to the parameters of a module here, tensor by tensor, straight to their sharded place.

A model says where each of its parameters comes from:

    {'layers/attention/q_proj/kernel': Source('model.layers.{}.self_attn.q_proj.weight', LINEAR), …}

and `load` fills an abstract state with them. A parameter whose source has `{}` is a stack: layer after layer is written
into it in place. Nothing but a piece of at most `PIECE` bytes is held beside what stays.
"""

import functools
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import SingleDeviceSharding

from crosstrainer_jax.weights.tensors import Tensor, Tensors

# A linear layer of PyTorch holds [outputs, inputs], one of Flax [inputs, outputs].
LINEAR = (1, 0)
PIECE = 2**25


class Source(NamedTuple):
  """Where a parameter comes from.

  Attributes:
    name: of the tensor in the file; `{}` is the number of the layer, for a parameter that is a stack over layers.
    axes: in which order the tensor's axes are taken; () as they are. What results may have more axes than the
      parameter (a convolution's kernel): it is then reshaped, row after row.
  """

  name: str
  axes: tuple[int, ...] = ()

  def names(self, layers: int) -> list[str]:
    return [self.name.format(layer) for layer in range(layers)] if '{}' in self.name else [self.name]


def flat(state: nnx.State) -> dict[str, Any]:
  """The variables of a state by their path, 'layers/attention/q_proj/kernel'."""
  return {'/'.join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def load(
  tensors: Tensors, sources: Mapping[str, Source], like: nnx.State, ignored: Sequence[str] = (), prefix: str = ''
) -> nnx.State:
  """`like` with every parameter read from `tensors`.

  Args:
    sources: of every parameter of `like`, by its path.
    like: abstract state; its leaves have shape, dtype and, where the parameter is to lie on a mesh, a sharding.
    ignored: regular expressions of names in the file that are not needed, matched from their beginning.
    prefix: what all names of the file begin with, and `sources` do not say; names without it are left alone.

  Raises:
    ValueError: parameters that are missing, have another shape, or that nobody asked for; all are listed.
  """
  wanted = flat(like)
  if set(wanted) != set(sources):
    raise AssertionError(f'sources do not fit the module: {sorted(set(wanted) ^ set(sources))}')
  check(tensors, sources, wanted, ignored, prefix)
  loaded = {}
  buffer = np.frombuffer(mmap.mmap(-1, PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
  for path, variable in wanted.items():
    members = [tensors[prefix + name] for name in _names(sources[path], variable)]
    loaded[path] = variable.replace(_parameter(variable, members, sources[path], buffer))
  return nnx.from_flat_state([(path, loaded['/'.join(map(str, path))]) for path, _ in nnx.to_flat_state(like)])


def tensors(
  state: nnx.State, sources: Mapping[str, Source], read: Callable[[str, int | None], jax.Array] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
  """The way back: every tensor as the file has it, one at a time, in the order of the layers.

  Only for parameters whose axes are all their tensors' axes, as those of decoders and adapters are.

  Args:
    read: the value of a parameter by its path and, of a stack, the layer; by default what is in the state.
  """
  variables = flat(state)

  def plain(path: str, layer: int | None) -> jax.Array:
    value: jax.Array = variables[path][...]
    return value if layer is None else value[layer]

  read = read or plain
  alone = [path for path in sources if '{}' not in sources[path].name]
  stacked = [path for path in sources if '{}' in sources[path].name]
  for path in alone:
    yield sources[path].name, _arranged(read(path, None), sources[path])
  # A parameter that is not there has been read from elsewhere, and is a stack of what the others are.
  known = {path: variables[path].shape[0] for path in stacked if path in variables}
  layers = max(known.values(), default=0)
  for layer in range(layers):
    for path in stacked:
      if layer < known.get(path, layers):
        yield sources[path].name.format(layer), _arranged(read(path, layer), sources[path])


def _arranged(value: jax.Array, source: Source) -> np.ndarray:
  return np.asarray(value.transpose(np.argsort(source.axes)) if source.axes else value)


def _names(source: Source, variable: Any) -> list[str]:
  return source.names(variable.shape[0] if '{}' in source.name else 1)


def check(
  tensors: Tensors,
  sources: Mapping[str, Source],
  wanted: Mapping[str, Any],
  ignored: Sequence[str] = (),
  prefix: str = '',
) -> None:
  """Raises ValueError with everything that does not fit; arguments as in `load`, `wanted` the parameters by path."""
  needed: list[tuple[str, str, tuple[int, ...], Source]] = []
  for path, variable in wanted.items():
    source = sources[path]
    shape = tuple(variable.shape[1:] if '{}' in source.name else variable.shape)
    needed += [(prefix + name, path, shape, source) for name in _names(source, variable)]
  names = {name for name, *_ in needed}
  missing = sorted(names - tensors.keys())
  extra = sorted(
    name
    for name in tensors.keys() - names
    if name.startswith(prefix) and not any(re.match(pattern, name.removeprefix(prefix)) for pattern in ignored)
  )
  wrong = []
  for name, path, shape, source in sorted(needed):
    if name not in tensors:
      continue
    there = tensors[name].shape
    arranged = tuple(there[axis] for axis in source.axes) if len(source.axes) == len(there) else there
    if (source.axes and len(source.axes) != len(there)) or (
      arranged != shape and (len(arranged) == len(shape) or np.prod(arranged) != np.prod(shape))
    ):
      wrong.append(f'{name} is {list(there)}, {path} needs {list(shape)}')
  parts = {'missing': missing, 'not known here': extra, 'of another shape': wrong}
  if any(parts.values()):
    listed = '; '.join(f'{len(part)} {what}: {", ".join(part)}' for what, part in parts.items() if part)
    raise ValueError(f'{tensors.path}: these weights do not fit the model. {listed}')


def _parameter(variable: Any, members: Sequence[Tensor], source: Source, buffer: np.ndarray) -> jax.Array:
  """The parameter on its devices, each of which gets its own part and nothing more.

  Pieces pass through `buffer`, uint8[PIECE], one at a time. Left to JAX, which runs dozens of calls behind, many would
  be held at once; left to the allocator, what they leave behind would add up to several.
  """
  shape, dtype = tuple(variable.shape), variable.dtype
  sharding = getattr(variable.get_value(), 'sharding', None) or SingleDeviceSharding(jax.devices()[0])
  stacked = '{}' in source.name
  parts = []
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    assert index is not None
    bounds = [range(*cut.indices(size)) for cut, size in zip(index, shape, strict=True)]
    place = SingleDeviceSharding(device)
    as_words = device.platform == 'cpu' and dtype.itemsize == 2
    part = jnp.zeros(tuple(map(len, bounds)), dtype, device=place)
    for number, layer in enumerate(bounds[0] if stacked else (0,)):
      layer_shape, layer_bounds = (shape[1:], bounds[1:]) if stacked else (shape, bounds)
      for start, piece, axes in _pieces(members[layer], source.axes, layer_shape, layer_bounds):
        start = [number, *start] if stacked else start
        part = _write(part, jax.device_put(_buffered(piece, buffer), place), start, axes, as_words)
        jax.block_until_ready(part)  # before `buffer` is written again
    parts.append(part)
  return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _pieces(
  tensor: Tensor, axes: tuple[int, ...], shape: tuple[int, ...], bounds: Sequence[range]
) -> Iterator[tuple[list[int], np.ndarray, tuple[int, ...]]]:
  """Pieces of the part `bounds` of one layer: where each begins there, the piece as it lies in the file, its axes."""
  array = tensor.read()
  if array.ndim != len(shape):
    # A convolution's kernel, small: its merged axes cannot be cut as they lie in the file.
    array, axes = array.transpose(axes or range(array.ndim)).reshape(shape), ()
  axes = axes or tuple(range(array.ndim))
  cut = array[tuple(slice(bounds[axes.index(a)].start, bounds[axes.index(a)].stop) for a in range(array.ndim))]
  if not cut.ndim:
    yield [], cut, ()
    return
  rows = max(1, PIECE // max(1, cut[:1].nbytes))
  for first in range(0, len(cut), rows):
    yield [first if axis == 0 else 0 for axis in axes], cut[first : first + rows], axes


def _buffered(piece: np.ndarray, buffer: np.ndarray) -> np.ndarray:
  """`piece`, copied into `buffer`; as it is where a single row is larger than that."""
  if piece.nbytes > buffer.nbytes:
    return piece
  copy = buffer[: piece.nbytes].view(piece.dtype).reshape(piece.shape)
  np.copyto(copy, piece)
  return copy


@functools.partial(jax.jit, donate_argnums=0, static_argnums=(3, 4))
def _write(part: jax.Array, piece: jax.Array, start: Sequence[Any], axes: tuple[int, ...], as_words: bool) -> jax.Array:
  """`part` with `piece` at `start`, in the same memory.

  `as_words`, for numbers of 16 bits on CPUs: XLA does not update bfloat16 there, but takes all of `part`, every layer
  of the stack, to float32 and back.
  """
  piece = piece.transpose(axes).astype(part.dtype)
  piece = piece.reshape((1,) * (part.ndim - piece.ndim) + piece.shape)
  if not as_words:
    return jax.lax.dynamic_update_slice(part, piece, start)
  words, written = (jax.lax.bitcast_convert_type(array, jnp.uint16) for array in (part, piece))
  return jax.lax.bitcast_convert_type(jax.lax.dynamic_update_slice(words, written, start), part.dtype)
