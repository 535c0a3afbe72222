"""Which token comes next: temperature, top-k (Fan et al. 2018) and top-p (Holtzman et al. 2020), on logits.

The order and the rules are those of `transformers`: temperature, then top-k, then top-p of what is left, renormalised.
Where logits are equal at the border, top-k keeps all of them, and top-p as many as it needs, from the end of the
vocabulary: so does a stable sort there, while PyTorch's own sort leaves open which.
"""

import operator

import jax
import jax.numpy as jnp


def top_k(logits: jax.Array, k: int) -> jax.Array:
  """Keeps the k largest logits of each row, and what equals the last of them.

  Args:
    logits: float[..., vocab].
    k: at least 1, static; more than the vocabulary keeps everything.

  Returns:
    float[..., vocab], -inf at what is cut.

  Raises:
    ValueError: k below 1.
  """
  k = operator.index(k)
  if k < 1:
    raise ValueError(f'top_k={k} must be at least 1')
  # The minimum, and not the last of them: XLA would merge that with the cut at k, and sort the whole vocabulary.
  smallest = jnp.min(jax.lax.top_k(logits, min(k, logits.shape[-1]))[0], axis=-1, keepdims=True)
  return jnp.where(logits < smallest, -jnp.inf, logits)


def top_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
  """Keeps the fewest tokens of each row whose probabilities sum to p, most probable first; at least one.

  Args:
    logits: float[..., vocab].
    p: from 0 to 1, which keeps everything; may be traced, and is not checked then.

  Returns:
    float[..., vocab], -inf at what is cut.

  Raises:
    ValueError: p is not a probability.
  """
  if isinstance(p, int | float) and not 0 <= p <= 1:
    raise ValueError(f'top_p={p} must lie between 0 and 1')
  # Only values are sorted: the tokens are found again by the smallest logit that is kept, which is faster than sorting
  # them too and putting them back in their places.
  ascending = jnp.sort(logits, axis=-1)
  sums = jnp.cumsum(jax.nn.softmax(ascending.astype(jnp.float32), axis=-1), axis=-1)
  cut = jnp.sum((sums[..., :-1] <= 1 - p) & (p < 1), axis=-1, keepdims=True)
  smallest = jnp.take_along_axis(ascending, cut, axis=-1)
  larger, equal = logits > smallest, logits == smallest
  # of the logits that equal the smallest, those at the end of the row fill up what is kept
  places = logits.shape[-1] - cut - jnp.sum(larger, axis=-1, keepdims=True)
  last = jax.lax.cumsum(equal.astype(jnp.int32), axis=logits.ndim - 1, reverse=True) <= places
  return jnp.where(larger | (equal & last), logits, -jnp.inf)


def filtered(
  logits: jax.Array,
  *,
  temperature: float | jax.Array = 1.0,
  top_k: int | None = None,
  top_p: float | jax.Array | None = None,
) -> jax.Array:
  """Logits of the distribution that tokens are drawn from.

  Args:
    logits: float[..., vocab].
    temperature: divides the logits, above 0; may be traced, and is not checked then.
    top_k: see the function of that name; None keeps everything. Static.
    top_p: see the function of that name; None keeps everything.

  Returns:
    float32[..., vocab], -inf at what is cut.

  Raises:
    ValueError: a setting outside of its range.
  """
  if isinstance(temperature, int | float) and not temperature > 0:
    raise ValueError(f'temperature={temperature} must be above 0; greedy=True takes the most probable token')
  logits = logits.astype(jnp.float32) / temperature
  if top_k is not None:
    logits = _top_k(logits, top_k)
  if top_p is not None:
    logits = _top_p(logits, top_p)
  return logits


def choose(
  logits: jax.Array,
  key: jax.Array | None = None,
  *,
  temperature: float | jax.Array = 1.0,
  top_k: int | None = None,
  top_p: float | jax.Array | None = None,
  greedy: bool = False,
) -> jax.Array:
  """The next token of each row.

  Args:
    logits: float[..., vocab]; -inf where a token is not possible.
    key: a PRNG key; greedy needs none.
    temperature, top_k, top_p: see `filtered`.
    greedy: takes the most probable token, the first where several are, and looks at nothing else. Static.

  Returns:
    int32[...].

  Raises:
    ValueError: sampling without a key, or a setting outside of its range.
  """
  if greedy:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  if key is None:
    raise ValueError('choose: sampling needs a key')
  possible = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
  return jax.random.categorical(key, possible, axis=-1).astype(jnp.int32)


# Arguments of the same names hide the functions above.
_top_k, _top_p = top_k, top_p
