"""The mesh, and where every parameter and batch lies on it.

Rules are data: `RULES` maps a logical axis of a parameter to a mesh axis. A model names its logical axes; mesh
axes only where the compiler must be told: kernels of attention, and the head in the loss.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Across slices; across chips, parameters split and batch split; across chips, matrices split.
MESH_AXES = ('replica', 'fsdp', 'tensor')

# Logical axis of a parameter -> mesh axes. What is not named here is replicated.
RULES: Mapping[str, tuple[str, ...]] = {
  'embed': ('fsdp',),
  'vocab': ('tensor',),
  'heads': ('tensor',),
  'kv_heads': ('tensor',),
  'mlp': ('tensor',),
  # The long side of a matrix whose other side is too short to be split, or of no known size.
  'long': ('tensor', 'fsdp'),
}


# Across slices of a TPU, in the order of MESH_AXES: networks between slices are slow, so that only `replica` is split.
ACROSS = (-1, 1, 1)


def make_mesh(
  shape: Sequence[int] = (1, -1, 1),
  devices: Sequence[jax.Device] | None = None,
  across: Sequence[int] = ACROSS,
) -> Mesh:
  """A mesh over all devices, whose axes go over the devices of a slice and, the outer part of them, over slices.

  Args:
    shape: sizes within a slice; one of them may be -1 and takes what is left.
    across: sizes across slices, likewise. Machines without slices are one.

  Raises:
    ValueError: the shape does not divide the number of devices, or of slices.
  """
  devices = list(devices if devices is not None else jax.devices())
  kinds = (AxisType.Auto,) * len(MESH_AXES)
  return Mesh(arranged(shape, devices, across), MESH_AXES, axis_types=kinds)


def arranged(shape: Sequence[int], devices: Sequence[jax.Device], across: Sequence[int] = ACROSS) -> np.ndarray:
  """The devices in the places of `make_mesh`: neighbours on a slice's network stay neighbours."""
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if len(devices) % slices:
    raise ValueError(f'{slices} slices of different sizes, {len(devices)} devices in all, make no mesh')
  inner = _filled('mesh', shape, len(devices) // slices, 'devices of a slice' if slices > 1 else 'devices')
  outer = _filled('mesh_across', across, slices, 'slices')
  if slices > 1:
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)
  return mesh_utils.create_device_mesh(inner, devices, allow_split_physical_axes=True)


def _filled(name: str, shape: Sequence[int], count: int, what: str) -> tuple[int, ...]:
  """`shape` with its -1 replaced, so that it covers `count` of `what`."""
  sizes = list(shape)
  if len(sizes) != len(MESH_AXES) or sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise ValueError(f'{name}={tuple(shape)}: give one size for each of {MESH_AXES}, at most one of them -1')
  if -1 in sizes:
    sizes[sizes.index(-1)] = count // math.prod(size for size in sizes if size != -1)
  if math.prod(sizes) != count:
    raise ValueError(
      f'{name}={tuple(shape)} does not cover the {count} {what}; write -1 for the axis that should take the rest'
    )
  return tuple(sizes)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The leading axis of a batch is split over `replica` and `fsdp`."""
  return NamedSharding(mesh, PartitionSpec(('replica', 'fsdp')))


def part_sharding(mesh: Mesh) -> NamedSharding:
  """Of a batch cut into parts [parts, rows, …], as `batch_sharding` splits the rows of a whole one."""
  return NamedSharding(mesh, PartitionSpec(None, ('replica', 'fsdp')))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def data_shards(mesh: Mesh) -> int:
  """Into how many parts a batch is split."""
  return mesh.shape['replica'] * mesh.shape['fsdp']


def own_rows(mesh: Mesh, rows: int) -> list[int]:
  """Which of the `rows` of a batch lie on devices of this process, in their order."""
  places = batch_sharding(mesh).addressable_devices_indices_map((rows,))
  return sorted({row for place in places.values() if place for row in range(*place[0].indices(rows))})


@dataclasses.dataclass(frozen=True)
class OwnRows:
  """`own_rows` of a mesh for any number of rows. Unlike a mesh, it can be given to reader processes."""

  shards: int
  own: tuple[int, ...]

  @classmethod
  def of(cls, mesh: Mesh) -> 'OwnRows':
    return cls(data_shards(mesh), tuple(own_rows(mesh, data_shards(mesh))))

  def __call__(self, rows: int) -> list[int]:
    """Which of `rows`, a multiple of the mesh's data shards, lie on devices of this process."""
    size, rest = divmod(rows, self.shards)
    if rest:
      raise ValueError(f'{rows} rows do not divide over the {self.shards} data shards of the mesh')
    return [row for shard in self.own for row in range(shard * size, (shard + 1) * size)]


def put_batch(batch: Any, mesh: Mesh) -> Any:
  """Moves this process's rows of a batch to the mesh.

  Args:
    batch: arrays whose leading axis holds `own_rows`.

  Raises:
    ValueError: the rows do not divide over the mesh's data axes.
  """
  shards, own = data_shards(mesh), len(own_rows(mesh, data_shards(mesh)))
  there = len(jax.tree.leaves(batch)[0])
  if there % own:
    raise ValueError(
      f'a batch of {there * shards // own} rows does not divide over the {shards} data shards of the mesh; '
      f'choose a batch size that is a multiple of {shards}, or another config.mesh'
    )
  rows, target = there // own * shards, batch_sharding(mesh)
  return jax.tree.map(lambda part: jax.make_array_from_process_local_data(target, part, (rows, *part.shape[1:])), batch)


def partition_spec(name: str, shape: Sequence[int], axes: Sequence[str | None] | None, mesh: Mesh) -> PartitionSpec:
  """The spec of one parameter from its logical axes.

  Raises:
    ValueError: two logical axes fall on one mesh axis, or a dimension does not divide.
  """
  if not axes:
    return PartitionSpec()
  spec = [RULES.get(axis, ()) if axis else () for axis in axes]
  used = [axis for dimension in spec for axis in dimension]
  if len(used) != len(set(used)):
    raise ValueError(
      f'{name}: logical axes {tuple(axes)} put two dimensions on one mesh axis; change RULES in training/sharding.py'
    )
  # As the compiler writes it, so that a state that comes out of an update has the very shardings that went in.
  split = [tuple(axis for axis in dimension if mesh.shape[axis] > 1) for dimension in spec]
  for size, dimension in zip(shape, split, strict=True):
    parts = math.prod(mesh.shape[axis] for axis in dimension)
    if size % parts:
      raise ValueError(
        f'{name}: dimension of {size} does not divide over the {parts} parts of mesh axis {" x ".join(dimension)}; '
        f'choose config.mesh so that it divides {size}'
      )
  while split and not split[-1]:
    split.pop()
  return PartitionSpec(*(None if not axes else axes[0] if len(axes) == 1 else axes for axes in split))


def logical_axes(variable: nnx.Variable) -> tuple[str | None, ...] | None:
  """The logical axes that a module gave to a parameter, None when it gave none; stacked layers come before them."""
  axes = variable.get_metadata().get('logical_axes')
  return ('layers',) * (len(variable.shape) - len(axes)) + tuple(axes) if axes else None


def unsplit_share(state: nnx.State, mesh: Mesh) -> float:
  """The share of a state's numbers that every device holds although the mesh could split them."""
  if mesh.shape['fsdp'] * mesh.shape['tensor'] == 1:
    return 0.0
  leaves, places = jax.tree.leaves(state), jax.tree.leaves(state_shardings(state, mesh))
  whole = sum(math.prod(leaf.shape) for leaf, place in zip(leaves, places, strict=True) if place.is_fully_replicated)
  return whole / sum(math.prod(leaf.shape) for leaf in leaves)


def state_shardings(state: nnx.State, mesh: Mesh) -> nnx.State:
  """NamedSharding for every variable of a (possibly abstract) state, in the same tree."""

  def place(path: tuple[Any, ...], variable: nnx.Variable) -> Any:
    name = '.'.join(str(p) for p in path)
    spec = partition_spec(name, variable.shape, logical_axes(variable), mesh)
    return variable.replace(NamedSharding(mesh, spec))

  return nnx.map_state(place, state)
