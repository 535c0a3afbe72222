"""A product with a matrix of weights, whose gradient XLA computes fast on CPUs as well."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """float[..., outputs] = `x` float[..., inputs] @ `kernel` float[inputs, outputs].

  On CPUs its weight gradient is written as xᵀ·g. JAX's own rule is (gᵀ·x)ᵀ, for which XLA there fuses the
  transposition of g into the elementwise operations that make g; those then walk through memory in strides, and a step
  takes 1.7 times as long. On TPUs JAX's own is right: with xᵀ·g each of 256 chips multiplies 1.14 times as much.
  """
  return x @ kernel


def _matmul_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return x @ kernel, (x, kernel)


def _matmul_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = kept
  rows = tuple(range(x.ndim - 1))
  weights = jax.lax.platform_dependent(
    x,
    g,
    cpu=lambda x, g: jnp.tensordot(x, g, axes=(rows, rows)),
    default=lambda x, g: jnp.tensordot(g, x, axes=(rows, rows)).T,
  )
  return g @ kernel.T, weights


matmul.defvjp(_matmul_forward, _matmul_backward)
