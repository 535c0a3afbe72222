"""Contrastive training of two towers: symmetric InfoNCE between the clips and the texts of an update.

    s_ij = scale · v_i·t_j,  L = ½ Σ_i w_i (lse_j s_ij − mean_{j ∈ P_i} s_ij) / Σ_i w_i + ½ (the same from text to clip)

With one right text for each clip that is CLIP's loss (Radford et al. 2021, figure 3), with several the outer sum of
SupCon (Khosla et al. 2020, eq. 2). Negatives come from the whole mesh: every device holds its own rows, and takes the
columns of all devices a block at a time, so that no device ever holds more than rows × block of the logits, in the
gradient as well. The number of devices changes nothing but the order of sums.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from crosstrainer_jax.training.stages import Blueprint
from crosstrainer_jax.training.step import Loss

# Columns of the logits that a device has at a time.
BLOCK = 1024

_DATA_AXES = ('replica', 'fsdp')
# In place of the logarithm of 0, whose gradient would not be finite.
_NOTHING = -1e30


class Labels(NamedTuple):
  """What tells which clip belongs to which text: row i of an update holds a clip and a text.

  Attributes:
    number: int32[N], of the row.
    text: int32[N], which text it is; equal texts have equal numbers.
    source: int32[N], what clips share that are nearly the same, a take for example.
    right: int32[N, P], numbers of all texts that are right for the clip; -1 fills up.
    weight: float32[N], 0 for a row that fills up an update.
  """

  number: Any
  text: Any
  source: Any
  right: Any
  weight: Any


# (labels of N clips, labels of M texts) -> bool[N, M] twice: what belongs together, and what may be compared at all.
Relation = Callable[[Labels, Labels], tuple[jax.Array, jax.Array]]


def own_text(clips: Labels, texts: Labels) -> tuple[jax.Array, jax.Array]:
  """A clip belongs to the text of its own row.

  Another row with the same words, or from the same source, is no negative: what it says may well be right.
  """
  together = clips.number[:, None] == texts.number[None]
  strangers = (clips.text[:, None] != texts.text[None]) & (clips.source[:, None] != texts.source[None])
  return together, together | strangers


def any_right_text(clips: Labels, texts: Labels) -> tuple[jax.Array, jax.Array]:
  """A clip belongs to every text that is right for it; every other one is a negative."""
  together = (clips.right[:, None, :] == texts.text[None, :, None]).any(-1)
  return together, jnp.ones_like(together)


def info_nce(
  clips: jax.Array,
  texts: jax.Array,
  scale: jax.Array,
  labels: Labels,
  relation: Relation,
  mesh: Mesh,
  block: int = BLOCK,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss, and for both directions the share of rows whose nearest column belongs to them.

  Args:
    clips, texts: float32[B, E] unit vectors, split over the mesh's data axes.
    scale: float32[], of the cosines.
    labels: of the B rows, split likewise.
  """

  def local(clips: jax.Array, texts: jax.Array, scale: jax.Array, labels: Labels) -> tuple[jax.Array, ...]:
    def everywhere(x: jax.Array) -> jax.Array:
      return jax.lax.all_gather(x, _DATA_AXES, tiled=True)

    def turned(rows: Labels, columns: Labels) -> tuple[jax.Array, jax.Array]:
      together, compared = relation(columns, rows)
      return together.T, compared.T

    every_label = jax.tree.map(everywhere, labels)
    found = []
    for rows, columns, related in ((clips, everywhere(texts), relation), (texts, everywhere(clips), turned)):
      loss, hit, weight = _one_way(scale * rows, columns, labels, every_label, related, block)
      sums = [jax.lax.psum((weight * x).sum(), _DATA_AXES) for x in (loss, hit)]
      total = jnp.maximum(jax.lax.psum(weight.sum(), _DATA_AXES), 1e-6)
      found += [x / total for x in sums]
    return tuple(found)

  rows = PartitionSpec(_DATA_AXES)
  split = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, PartitionSpec(), rows), out_specs=PartitionSpec())
  to_text, text_hits, to_clip, clip_hits = split(clips, texts, scale, labels)
  return (to_text + to_clip) / 2, {'clip_to_text': text_hits, 'text_to_clip': clip_hits}


class _Sums(NamedTuple):
  """Of the columns seen so far, for each row: float32[N] each.

  Attributes:
    largest: logit; `exponentials` are relative to it.
    right: sum of the logits of what belongs to the row, `positives` of them; `nearest` is the largest of them.
  """

  largest: jax.Array
  exponentials: jax.Array
  right: jax.Array
  positives: jax.Array
  nearest: jax.Array


def _one_way(
  rows: jax.Array, columns: jax.Array, labels: Labels, others: Labels, relation: Relation, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Loss, hit (0 or 1) and weight of each of the rows float32[N, E], against columns float32[M, E]."""
  block = min(block, len(columns))
  blocks = -(-len(columns) // block)

  def cut(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, [(0, blocks * block - len(x)), *[(0, 0)] * (x.ndim - 1)])
    return padded.reshape(blocks, block, *x.shape[1:])

  def look(columns: jax.Array, others: Labels) -> _Sums:
    logits = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
    together, compared = relation(labels, others)
    real = (others.weight > 0)[None]
    together, compared = together & real, compared & real
    seen = jnp.where(compared, logits, _NOTHING)
    largest = jax.lax.stop_gradient(seen.max(1))
    return _Sums(
      largest,
      jnp.where(compared, jnp.exp(seen - largest[:, None]), 0.0).sum(1),
      jnp.where(together, logits, 0.0).sum(1),
      together.sum(1).astype(jnp.float32),
      jax.lax.stop_gradient(jnp.where(together, logits, _NOTHING).max(1)),
    )

  # The logits of a block are made again for its gradient, and not kept.
  @jax.checkpoint
  def add(so_far: _Sums, part: tuple[jax.Array, Labels]) -> tuple[_Sums, None]:
    here = look(*part)
    largest = jnp.maximum(so_far.largest, here.largest)
    exponentials = sum(sums.exponentials * jnp.exp(sums.largest - largest) for sums in (so_far, here))
    return _Sums(
      largest,
      jnp.asarray(exponentials),
      so_far.right + here.right,
      so_far.positives + here.positives,
      jnp.maximum(so_far.nearest, here.nearest),
    ), None

  parts = (cut(columns), jax.tree.map(cut, others))
  first, rest = (jax.tree.map(lambda x, place=place: x[place], parts) for place in (0, slice(1, None)))
  sums = jax.lax.scan(add, jax.checkpoint(look)(*first), rest)[0]
  # A row that belongs to no column has nothing to learn here.
  weight = labels.weight * (sums.positives > 0)
  entropy = sums.largest + jnp.log(jnp.maximum(sums.exponentials, 1e-30))
  loss = jnp.where(weight > 0, entropy - sums.right / jnp.maximum(sums.positives, 1.0), 0.0)
  return loss, (sums.nearest >= sums.largest).astype(jnp.float32), weight


def make_loss(blueprint: Blueprint, relation: Relation, mesh: Mesh, block: int = BLOCK) -> Loss:
  """The loss of a `TwoTowers` as an update takes it.

  A batch is {'clips': arrays of the one tower by name, 'texts': those of the other, 'labels': those of `Labels`}. An
  update is one piece: cut into parts (`accumulate`), each row would meet fewer negatives.
  """

  def loss(trained: nnx.State, frozen: nnx.State, batch: dict[str, Any], key: jax.Array) -> Any:
    towers: Any = blueprint.merge(nnx.merge_state(trained, frozen), key)
    clips, texts = towers.clips(**batch['clips']), towers.texts(**batch['texts'])
    total, hits = info_nce(clips, texts, towers.scale(), Labels(**batch['labels']), relation, mesh, block)
    one = jnp.ones(())
    # Each direction is a mean over its own rows; together they weigh as one.
    return total, one, {name: (value, one) for name, value in {**hits, 'scale': towers.scale()}.items()}

  return loss
