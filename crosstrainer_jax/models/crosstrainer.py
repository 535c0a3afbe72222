"""The whole: f_v → f_m → L. Mapped video features stand where the prompt says `<video>` (paper, section 3.3)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from crosstrainer_jax.models.decoder import Decoder, DecoderConfig
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
  ):
    self.video_id = video_id
    self.row_sharding = row_sharding
    self.encoder = encoder
    self.rounded = rounded
    # f_m trains, so that its parameters are float32 whatever those of a frozen L are.
    self.mapper = Mapper(feature_dim, decoder.hidden_size, rngs=rngs, dtype=decoder.dtype, whitened=whitened)
    # The exact type: a family's config may inherit from another's.
    self.decoder = next(module for kind, module in DECODERS.values() if type(decoder) is kind)(decoder, rngs)

  def video_tokens(self, batch: dict[str, jax.Array]) -> jax.Array:
    """v = f_m(v'): float[B, V * S, hidden] from 'features' float16[B, V, S, D] or 'frames' uint8[B, V, T, H, W, 3].

    Beside frames, 'frames_valid' bool[B, V, T] says which of them are real; without it all are.
    """
    if 'features' in batch:
      features = batch['features']
    else:
      if self.encoder is None:
        raise ValueError('frames came in, but this model has no encoder: set config.encoder.source to features')
      frames, valid = batch['frames'], batch.get('frames_valid')
      if valid is not None:
        valid = valid.reshape(-1, valid.shape[-1])
      encoded = self.encoder(frames.reshape(-1, *frames.shape[2:]), valid)
      features = encoded.reshape(*frames.shape[:2], *encoded.shape[1:])
      if self.rounded:
        features = features.astype(jnp.float16)
    b, v, s, d = features.shape
    return self.mapper(features.astype(jnp.float32).reshape(b * v * s, d)).reshape(b, v * s, -1)

  def embed(self, batch: dict[str, jax.Array]) -> jax.Array:
    """float[B, L, hidden]: word embeddings, with the n-th placeholder of a row replaced by its n-th video token."""
    tokens = batch['tokens']
    is_video = tokens == self.video_id
    # The placeholder may be an id that the table does not have.
    words, video = self.decoder.embed(jnp.where(is_video, 0, tokens)), self.video_tokens(batch)
    order = jnp.clip(jnp.cumsum(is_video, 1) - 1, 0, video.shape[1] - 1)
    placed = jnp.take_along_axis(video, order[..., None], axis=1)
    mixed = jnp.where(is_video[..., None], placed.astype(words.dtype), words)
    return mixed if self.row_sharding is None else jax.lax.with_sharding_constraint(mixed, self.row_sharding)

  def target_logits(self, batch: dict[str, jax.Array], deterministic: bool) -> jax.Array:
    """float32[B, M, vocab]: logits at the target positions only; a prompt's are never computed."""
    hidden, _ = self.decoder(self.embed(batch), batch['positions'], batch['segment_ids'], deterministic)
    chosen = jnp.take_along_axis(hidden, batch['target_slots'][..., None], axis=1)
    return self.decoder.logits(chosen)


def negative_log_likelihood(
  model: CrossTrainer, batch: dict[str, jax.Array], deterministic: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Next-token loss on the targets (paper, eq. 1 and 2).

  Returns:
    Σ w·loss, Σ w, and Σ w·correct, over all target tokens of the batch; an example of weight 0 counts for nothing.
  """
  logits = model.target_logits(batch, deterministic)
  weights = batch['target_weights'] * batch['weight'][:, None]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['target_ids'])
  # Right where no token is likelier. The largest logit is at hand from the softmax; to look for its place costs as much
  # again.
  chosen = jnp.take_along_axis(logits, batch['target_ids'][..., None], axis=-1)[..., 0]
  correct = (chosen >= logits.max(-1)).astype(jnp.float32)
  return (losses * weights).sum(), weights.sum(), (correct * weights).sum()
