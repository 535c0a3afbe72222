"""Settings of the whole suite: eight fake CPU devices, one compile cache, markers."""

import getpass
import os
import pathlib
import tempfile

# before jax is imported anywhere
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8'.strip()
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
os.environ['TRANSFORMERS_NO_ADVISORY_WARNINGS'] = '1'
# kept between runs: what compiles once in a suite of small models compiles again in the next
_cache = pathlib.Path(tempfile.gettempdir()) / f'crosstrainer_jax-compile-cache-{getpass.getuser()}'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_cache)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / 'shared' / 'data'


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption(
    '--update-goldens', action='store_true', help='rewrite the files of tests/golden instead of comparing'
  )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  if REAL_DATA.is_dir():
    return
  skip = pytest.mark.skip(reason=f'the real material is not there: {REAL_DATA}')
  for item in items:
    if 'real' in item.keywords:
      item.add_marker(skip)


@pytest.fixture
def real_data() -> pathlib.Path:
  """The folder of real material; the test is skipped where it is absent."""
  if not REAL_DATA.is_dir():
    pytest.skip(f'the real material is not there: {REAL_DATA}')
  return REAL_DATA
