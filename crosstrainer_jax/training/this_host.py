"""A model that trained over all hosts, on one host's own devices: each answers for itself there."""

from __future__ import annotations

import dataclasses

import jax
import ml_collections
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from crosstrainer_jax.models.encoders import Encoder
from crosstrainer_jax.training import sharding, stages


@dataclasses.dataclass(frozen=True)
class HostModel:
  """How a model is built on this host, the mesh of its devices, and where parameters lie there."""

  blueprint: stages.Blueprint
  mesh: Mesh
  places: nnx.State

  @classmethod
  def of(
    cls,
    blueprint: stages.Blueprint,
    config: ml_collections.ConfigDict,
    vocab_size: int,
    feature_dim: int,
    video_id: int,
    encoder: Encoder | None = None,
  ) -> HostModel:
    """Of the model of `blueprint`; the other arguments as in `stages.architecture`."""
    mesh = sharding.make_mesh((1, -1, 1), jax.local_devices())
    create = stages.architecture(config, vocab_size, feature_dim, video_id, config.seed, encoder, mesh)
    graph, abstract, *_ = nnx.split(nnx.eval_shape(create), nnx.Param, ...)

    def streams() -> nnx.State:
      _, _, *(rest,) = nnx.split(create(), nnx.Param, ...)
      return rest

    with jax.set_mesh(mesh):
      rest = jax.jit(streams)()
    here = dataclasses.replace(blueprint, graph=graph, rest=rest)
    return cls(here, mesh, sharding.state_shardings(abstract, mesh))

  def bring(self, params: nnx.State) -> nnx.State:
    """The whole of parameters that may lie over the devices of several hosts; all of them call it together."""
    return jax.tree.map(_brought_here, params, self.places)


def _brought_here(leaf: jax.Array, place: jax.sharding.Sharding) -> jax.Array:
  whole = leaf if leaf.is_fully_addressable else multihost_utils.process_allgather(leaf, tiled=True)
  return jax.device_put(whole, place)
