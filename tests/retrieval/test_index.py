import numpy as np
import pytest

from crosstrainer_jax.retrieval.index import Index


def vectors(count, seed=0):
  found = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
  return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize('block', [7, 50, 1000])
def test_the_best_are_those_of_all_cosines(block):
  library, queries = vectors(200), vectors(5, 1)
  scores, numbers = Index(library, block=block).search(queries, 12)
  cosines = queries @ library.T
  order = np.argsort(-cosines, 1, kind='stable')[:, :12]
  np.testing.assert_array_equal(numbers, order)
  np.testing.assert_allclose(scores, np.take_along_axis(cosines, order, 1), rtol=1e-5)


def test_of_equals_the_first_comes_first():
  same = np.repeat(vectors(1), 20, 0)
  assert Index(same, block=6).search(same[:1], 20)[1][0].tolist() == list(range(20))


def test_half_precision_keeps_the_first():
  library = vectors(300)
  _, numbers = Index(library, 'bfloat16', block=64).search(library[40:44], 3)
  assert numbers[:, 0].tolist() == [40, 41, 42, 43]


def test_bad_sizes_are_told():
  with pytest.raises(ValueError, match='at least one vector'):
    Index(np.zeros((0, 4), np.float32))
  with pytest.raises(ValueError, match='from 1 to 3'):
    Index(vectors(3)).search(vectors(1), 4)
