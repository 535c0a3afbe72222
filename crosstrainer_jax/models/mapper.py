"""f_m, the mapper: two linear layers make tokens of L from video features (paper section 3, as in LLaVA-1.5).

Before them features may be whitened by fixed statistics of the training clips. The features of a frozen encoder share
a large mean, and a few directions carry most of their variance: a mapper and decoder that start from nothing then stay
for hundreds of updates at writing the most frequent answer; the numbers are in
docs/decisions/0002-choices-the-paper-leaves-open.md.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from crosstrainer_jax.weights.convert import LINEAR, Source

# The width of the encoder's features; the other axes are the decoder's.
LOGICAL_AXES = ('features', 'long', 'mlp', 'embed')


class Whitening(nnx.Module):
  """(features - mean) @ matrix in float32: statistics that are kept with the parameters and get no gradient.

  Args:
    width: D of the features; `mean` float32[D] is zero and `matrix` float32[D, D] the identity until they are set.
  """

  def __init__(self, width: int) -> None:
    self.mean = nnx.Param(jnp.zeros(width), logical_axes=(None,))
    self.matrix = nnx.Param(jnp.eye(width), logical_axes=('features', None))

  def __call__(self, features: jax.Array) -> jax.Array:
    """float32[..., D] of float[..., D]."""
    mean, matrix = jax.lax.stop_gradient((self.mean[...], self.matrix[...]))
    return (features.astype(jnp.float32) - mean) @ matrix


class Mapper(nnx.Module):
  """Linear(inputs, hidden), GELU, Linear(hidden, outputs); with `whitened`, a fixed `Whitening` first.

  Args:
    inputs: width of the video features.
    outputs: width of the decoder's embeddings.
    hidden: width between the two layers; 0 for that of the outputs, as in LLaVA.
    dtype: of the computation.
    param_dtype: of the stored parameters.
    whitened: adds `whitening`, the identity until `whiten` has set it.
    rngs: `params`.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    rngs: nnx.Rngs,
    dtype: str = 'float32',
    param_dtype: str = 'float32',
    whitened: bool = False,
    hidden: int = 0,
  ) -> None:
    def linear(inputs: int, outputs: int, axes: tuple[str, str]) -> nnx.Linear:
      return nnx.Linear(
        inputs,
        outputs,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(param_dtype),
        kernel_metadata={'logical_axes': axes},
        bias_metadata={'logical_axes': axes[1:]},
        rngs=rngs,
      )

    hidden = hidden or outputs
    self.fc1 = linear(inputs, hidden, ('features', 'long'))
    self.fc2 = linear(hidden, outputs, ('mlp', 'embed'))
    self.whitened = whitened
    if whitened:
      self.whitening = Whitening(inputs)

  def __call__(self, features: jax.Array) -> jax.Array:
    """Tokens dtype[..., outputs] of `features` float[..., inputs]."""
    if self.whitened:
      features = self.whitening(features)
    # The exact GELU: torch's default, which LLaVA's projector uses.
    return self.fc2(jax.nn.gelu(self.fc1(features), approximate=False))


def sources(whitened: bool) -> dict[str, Source]:
  """The name of each parameter of a `Mapper` in a file of PyTorch's layout."""
  found: dict[str, Source] = {}
  for name in ('fc1', 'fc2'):
    found |= {f'{name}/kernel': Source(f'{name}.weight', LINEAR), f'{name}/bias': Source(f'{name}.bias')}
  if whitened:
    found |= {f'whitening/{name}': Source(f'whitening.{name}') for name in ('mean', 'matrix')}
  return found


def whitening(features: np.ndarray, floor: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
  """The linear map that makes features uncorrelated and of unit variance, with as little change as possible (ZCA).

  Args:
    features: float[N, D]. The covariance is shrunk (Ledoit & Wolf 2004), so that few clips do as well.
    floor: added to each variance, as a share of the largest, so that noise is not blown up.

  Returns:
    mean float32[D] and matrix float32[D, D]: (features - mean) @ matrix.
  """
  # scikit-learn takes a second to import, which reading a config should not
  from sklearn.covariance import ledoit_wolf

  features = np.asarray(features, np.float64)
  covariance, _ = ledoit_wolf(features)
  variances, directions = np.linalg.eigh(covariance)
  # Features that are all alike have no variance: they stay as they are.
  scale = 1.0 / np.sqrt(np.maximum(variances, 0.0) + floor * variances.max()) if variances.max() > 0 else 1.0
  matrix = directions * scale @ directions.T
  return features.mean(0).astype(np.float32), matrix.astype(np.float32)


def sample(clips: Sequence[int], most: int = 1024) -> Sequence[int]:
  """At most `most` of `clips`, evenly drawn: enough to set a whitening by."""
  return clips[:: max(1, -(-len(clips) // most))]


def whiten(params: nnx.State, features: np.ndarray) -> nnx.State:
  """`params` of a mapper, with its whitening set by `features` float[N, D] of training clips; in their place."""
  placed = jax.tree.map(lambda leaf: leaf, params)
  for name, value in zip(('mean', 'matrix'), whitening(features), strict=True):
    old = placed['whitening'][name]
    placed['whitening'][name] = old.replace(jax.device_put(np.asarray(value, old.dtype), old.get_value().sharding))
  return placed
