"""The whole: f_v → f_m → L. Mapped video features stand where the prompt says `<video>` (paper, section 3.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from crosstrainer_jax.models.cross_entropy import cross_entropy, pieces_of
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.mapper import Mapper
from crosstrainer_jax.models.registry import Registry, configure

# The families of L: name -> (config dataclass, module). A new one is one file and one line here.
DECODERS: Registry = {
  'llama': (DecoderConfig, Decoder),
}


def decoder_config(name: str, settings: dict[str, Any]) -> Any:
  """The config dataclass of the family `name`, filled with `settings`.

  Raises:
    ValueError: no such family, or a setting that it does not have.
  """
  return configure('decoder', DECODERS, name, settings)


class CrossTrainer(nnx.Module):
  """f_m and L, and f_v as well where it trains jointly from pixels.

  Args:
    decoder: config of L.
    feature_dim: D, width of the encoder's features.
    video_id: token id of the placeholder.
    encoder: the video encoder when frames come in; None when features come from outside.
    whitened: the mapper whitens its features.
    rounded: features of the encoder are rounded as those are that are cached: right where it is frozen.
    row_sharding: how the rows of a batch lie on a mesh. Left to itself the compiler lets activations follow the
      parameters, split by width, and every device computes all rows. None where there is no mesh.
    mapper_hidden: width between the layers of f_m, see `Mapper`.
  """

  def __init__(
    self,
    decoder: DecoderConfig,
    feature_dim: int,
    video_id: int,
    rngs: nnx.Rngs,
    encoder: nnx.Module | None = None,
    whitened: bool = False,
    rounded: bool = False,
    row_sharding: jax.sharding.NamedSharding | None = None,
    mapper_hidden: int = 0,
  ):
    self.video_id = video_id
    self.row_sharding = row_sharding
    self.encoder = encoder
    self.rounded = rounded
    # f_m trains, so that its parameters are float32 whatever those of a frozen L are.
    self.mapper = Mapper(
      feature_dim, decoder.hidden_size, rngs=rngs, dtype=decoder.dtype, whitened=whitened, hidden=mapper_hidden
    )
    # The exact type: a family's config may inherit from another's.
    self.decoder = next(module for kind, module in DECODERS.values() if type(decoder) is kind)(
      decoder, rngs, None if row_sharding is None else row_sharding.mesh
    )

  def video_tokens(self, batch: dict[str, jax.Array]) -> jax.Array:
    """v = f_m(v') of all clips of a row: float[R, N, hidden], from 'features' float16[R, …, D] or from 'frames'
    uint8[R, …, T, H, W, 3], where … are K clips (none for a clip a row) and V views, and of features S seconds.

    Beside frames, 'frames_valid' bool[R, …, T] says which of them are real; without it all are.
    """
    if 'features' in batch:
      features = batch['features']
    else:
      if self.encoder is None:
        raise ValueError('frames came in, but this model has no encoder: set config.encoder.source to features')
      frames, valid = batch['frames'], batch.get('frames_valid')
      if valid is not None:
        valid = valid.reshape(-1, valid.shape[-1])
      encoded = self._by_rows(self.encoder(self._by_rows(frames.reshape(-1, *frames.shape[-4:])), valid))
      features = encoded.reshape(len(frames), -1, encoded.shape[-1])
      if self.rounded:
        features = features.astype(jnp.float16)
    rows, width = len(features), features.shape[-1]
    return self.mapper(features.astype(jnp.float32).reshape(-1, width)).reshape(
      rows, -1, self.decoder.config.hidden_size
    )

  def embed(self, batch: dict[str, jax.Array]) -> jax.Array:
    """float[R, L, hidden]: word embeddings; at placeholders the video tokens that 'video_slots' int32[R, L] name."""
    tokens = batch['tokens']
    is_video = tokens == self.video_id
    # The placeholder may be an id that the table does not have.
    words, video = self.decoder.embed(jnp.where(is_video, 0, tokens)), self.video_tokens(batch)
    placed = jnp.take_along_axis(video, batch['video_slots'][..., None], axis=1)
    mixed = jnp.where(is_video[..., None], placed.astype(words.dtype), words)
    return self._by_rows(mixed)

  def _by_rows(self, x: jax.Array) -> jax.Array:
    """`x`, split over the mesh by its first axis: rows, or what rows hold."""
    return x if self.row_sharding is None else jax.lax.with_sharding_constraint(x, self.row_sharding)

  def target_states(self, batch: dict[str, jax.Array], deterministic: bool) -> jax.Array:
    """dtype[R, M, hidden]: the states that predict the targets."""
    hidden, _ = self.decoder(self.embed(batch), batch['positions'], batch['segment_ids'], deterministic)
    return jnp.take_along_axis(hidden, batch['target_slots'][..., None], axis=1)


def negative_log_likelihood(
  model: CrossTrainer, batch: dict[str, jax.Array], deterministic: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Next-token loss on the targets (paper, eq. 1 and 2).

  Returns:
    Σ w·loss, Σ w, and Σ w·correct, over all target tokens of the batch.
  """
  states, head, weights = model.target_states(batch, deterministic), model.decoder.head(), batch['target_weights']
  rows = len(states)
  if model.row_sharding is not None:
    # Each device has the whole head once, but for the vocabulary's split, and keeps its rows to itself: left to itself
    # the compiler gathers the probabilities of all rows, piece by piece.
    rows = model.row_sharding.shard_shape(states.shape)[0]
    states = jax.lax.with_sharding_constraint(states, model.row_sharding)
    head = jax.lax.with_sharding_constraint(head, NamedSharding(model.row_sharding.mesh, PartitionSpec(None, 'tensor')))
  pieces = pieces_of(states.shape[1], rows, model.decoder.config.vocab_size)
  total, correct = cross_entropy(states, head, batch['target_ids'], weights, pieces)
  return total, weights.sum(), correct
