"""The mesh, and where every parameter and batch lies on it.

Rules are data: `RULES` maps a logical axis of a parameter to a mesh axis. A model names its logical axes; it never
names a mesh axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Across slices; across chips, parameters split and batch split; across chips, matrices split.
MESH_AXES = ('replica', 'fsdp', 'tensor')

# Logical axis of a parameter -> mesh axis. What is not named here is replicated.
RULES: Mapping[str, str] = {
  'embed': 'fsdp',
  'vocab': 'tensor',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'mlp': 'tensor',
}


def make_mesh(shape: Sequence[int] = (1, -1, 1), devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh over all devices; one entry of `shape` may be -1 and takes what is left.

  Raises:
    ValueError: the shape does not divide the number of devices.
  """
  devices = list(devices if devices is not None else jax.devices())
  sizes = list(shape)
  if len(sizes) != len(MESH_AXES) or sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise ValueError(f'mesh={tuple(shape)}: give one size for each of {MESH_AXES}, at most one of them -1')
  if -1 in sizes:
    known = int(np.prod([s for s in sizes if s != -1]))
    sizes[sizes.index(-1)] = len(devices) // known
  if int(np.prod(sizes)) != len(devices):
    raise ValueError(
      f'mesh={tuple(shape)} does not cover the {len(devices)} devices; write -1 for the axis that should take the rest'
    )
  return jax.make_mesh(tuple(sizes), MESH_AXES, devices=devices, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The leading axis of a batch is split over `replica` and `fsdp`."""
  return NamedSharding(mesh, PartitionSpec(('replica', 'fsdp')))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def data_shards(mesh: Mesh) -> int:
  """Into how many parts a batch is split."""
  return mesh.shape['replica'] * mesh.shape['fsdp']


def put_batch(batch: Any, mesh: Mesh) -> Any:
  """Moves this process's rows of a batch to the mesh.

  Raises:
    ValueError: the rows do not divide over the mesh's data axes.
  """
  rows = jax.process_count() * len(jax.tree.leaves(batch)[0])
  if rows % data_shards(mesh):
    raise ValueError(
      f'a batch of {rows} rows does not divide over the {data_shards(mesh)} data shards of the mesh; '
      f'choose a batch size that is a multiple of {data_shards(mesh)}, or another config.mesh'
    )
  target = batch_sharding(mesh)
  return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(target, rows), batch)


def partition_spec(name: str, shape: Sequence[int], axes: Sequence[str | None] | None, mesh: Mesh) -> PartitionSpec:
  """The spec of one parameter from its logical axes.

  Raises:
    ValueError: two logical axes fall on one mesh axis, or a dimension does not divide.
  """
  if not axes:
    return PartitionSpec()
  spec = [RULES.get(axis) if axis else None for axis in axes]
  used = [axis for axis in spec if axis]
  if len(used) != len(set(used)):
    raise ValueError(
      f'{name}: logical axes {tuple(axes)} put two dimensions on one mesh axis; change RULES in training/sharding.py'
    )
  for size, axis in zip(shape, spec, strict=True):
    if axis and size % mesh.shape[axis]:
      raise ValueError(
        f'{name}: dimension of {size} does not divide over mesh axis {axis!r} of {mesh.shape[axis]}; '
        f'choose config.mesh so that {axis} divides {size}'
      )
  # As the compiler writes it, so that a state that comes out of an update has the very shardings that went in.
  split = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
  while split and split[-1] is None:
    split.pop()
  return PartitionSpec(*split)


def logical_axes(variable: nnx.Variable) -> tuple[str | None, ...] | None:
  """The logical axes that a module gave to a parameter, None when it gave none; stacked layers come before them."""
  axes = variable.get_metadata().get('logical_axes')
  return ('layers',) * (len(variable.shape) - len(axes)) + tuple(axes) if axes else None


def state_shardings(state: nnx.State, mesh: Mesh) -> nnx.State:
  """NamedSharding for every variable of a (possibly abstract) state, in the same tree."""

  def place(path: tuple[Any, ...], variable: nnx.Variable) -> Any:
    name = '.'.join(str(p) for p in path)
    spec = partition_spec(name, variable.shape, logical_axes(variable), mesh)
    return variable.replace(NamedSharding(mesh, spec))

  return nnx.map_state(place, state)
