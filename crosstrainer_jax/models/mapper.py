"""f_m, the mapper: two linear layers make tokens of L from video features (paper section 3, as in LLaVA-1.5)."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import spmd

# The width of the encoder's features; the other axes are the decoder's.
LOGICAL_AXES = ('features', 'mlp', 'embed')


class Mapper(nnx.Module):
  """Linear(inputs, outputs), GELU, Linear(outputs, outputs).

  Args:
    inputs: width of the video features.
    outputs: width of the decoder's embeddings.
    dtype: of the computation.
    param_dtype: of the stored parameters.
    rngs: `params`.
  """

  def __init__(
    self, inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: str = 'float32', param_dtype: str = 'float32'
  ) -> None:
    placed = not jax.sharding.get_abstract_mesh().empty and bool(spmd.get_logical_axis_rules())

    def linear(inputs: int, axes: tuple[str, str]) -> nnx.Linear:
      return nnx.Linear(
        inputs,
        outputs,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(param_dtype),
        kernel_metadata={'out_sharding': axes},
        bias_metadata={'out_sharding': axes[1:]},
        rngs=rngs,
      )

    with nnx.use_eager_sharding(placed):
      self.fc1 = linear(inputs, ('features', 'mlp'))
      self.fc2 = linear(outputs, ('mlp', 'embed'))

  def __call__(self, features: jax.Array) -> jax.Array:
    """Tokens dtype[..., outputs] of `features` float[..., inputs]."""
    # The exact GELU: torch's default, which LLaVA's projector uses.
    return self.fc2(jax.nn.gelu(self.fc1(features), approximate=False))
