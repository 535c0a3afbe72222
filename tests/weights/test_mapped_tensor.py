import ml_dtypes
import numpy as np
import pytest

from crosstrainer_jax.weights.mapped_tensor import Tensor

F32 = np.dtype(np.float32)


@pytest.fixture
def file(tmp_path):
  """12 numbers behind 8 bytes of something else."""
  path = tmp_path / 'numbers'
  path.write_bytes(b'-header-' + np.arange(12, dtype=np.float32).tobytes())
  return path


def test_rows(file):
  tensor = Tensor(file, (3, 4), F32, 8)
  np.testing.assert_array_equal(tensor.read(), np.arange(12).reshape(3, 4))
  assert tensor.read().dtype == np.float32
  assert tensor.nbytes == 48


def test_strides(file):
  """Columns first, every second number, and one number many times, as files of PyTorch hold them."""
  numbers = np.arange(12, dtype=np.float32)
  np.testing.assert_array_equal(Tensor(file, (4, 3), F32, 8, (4, 16)).read(), numbers.reshape(3, 4).T)
  np.testing.assert_array_equal(Tensor(file, (5,), F32, 12, (8,)).read(), numbers[1:11:2])
  np.testing.assert_array_equal(Tensor(file, (3, 2), F32, 8, (0, 4)).read(), numbers[[[0, 1]] * 3])


def test_scalar_and_empty(file):
  scalar = Tensor(file, (), F32, 8 + 4 * 7).read()
  assert scalar.shape == ()
  assert scalar == 7
  empty = Tensor(file, (2, 0, 3), F32, 8)
  assert empty.read().shape == (2, 0, 3)
  assert empty.nbytes == 0


@pytest.mark.parametrize('dtype', [np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8, np.bool_])
def test_types(dtype, tmp_path):
  values = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
  (tmp_path / 'numbers').write_bytes(values.tobytes())
  read = Tensor(tmp_path / 'numbers', (2, 3), np.dtype(dtype), 0).read()
  assert read.dtype == dtype
  np.testing.assert_array_equal(read, values)


def test_what_is_not_aligned(tmp_path):
  (tmp_path / 'numbers').write_bytes(b'?' + np.arange(3, dtype=np.float32).tobytes())
  np.testing.assert_array_equal(Tensor(tmp_path / 'numbers', (3,), F32, 1).read() + 1, [1, 2, 3])


def test_the_file_is_not_written(file):
  before = file.read_bytes()
  with pytest.raises(ValueError, match='read-only'):
    Tensor(file, (12,), F32, 8).read()[0] = 1
  assert file.read_bytes() == before


def test_nothing_is_read_before_it_is_used(file):
  tensor = Tensor(file, (12,), F32, 8)
  file.write_bytes(b'-header-' + np.full(12, 5, np.float32).tobytes())
  assert (tensor.read() == 5).all()


def test_sizes_are_whole_numbers_of_any_size(file):
  """A shape that a hostile file made up does not wrap around."""
  assert Tensor(file, (2**32, 2**32), F32, 8, (0, 0)).nbytes == 2**66
  with pytest.raises(ValueError, match='too big|too large|maximum'):
    Tensor(file, (2**32, 2**32), F32, 8, (0, 0)).read()
