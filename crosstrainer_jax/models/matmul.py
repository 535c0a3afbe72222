"""A product with a matrix of weights, whose gradient XLA computes fast on CPUs as well."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """float[..., outputs] = `x` float[..., inputs] @ `kernel` float[inputs, outputs].

  Its weight gradient is written as xᵀ·g. JAX's own rule is (gᵀ·x)ᵀ, for which XLA on CPU fuses the transposition of g
  into the elementwise operations that make g; those then walk through memory in strides, and a step takes 1.7 times
  as long. On TPUs both become the same program.
  """
  return x @ kernel


def _matmul_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return x @ kernel, (x, kernel)


def _matmul_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = kept
  rows = tuple(range(x.ndim - 1))
  return g @ kernel.T, jnp.tensordot(x, g, axes=(rows, rows))


matmul.defvjp(_matmul_forward, _matmul_backward)
