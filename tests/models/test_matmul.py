"""The product and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from crosstrainer_jax.models.matmul import matmul


def test_matmul_has_the_gradients_of_the_plain_product() -> None:
  x, kernel, g = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(2, 3, 4), (4, 5), (2, 3, 5)]))
  value, pull = jax.vjp(matmul, x, kernel)
  plain, plain_pull = jax.vjp(jnp.matmul, x, kernel)
  np.testing.assert_allclose(value, plain, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), pull(g), plain_pull(g))
