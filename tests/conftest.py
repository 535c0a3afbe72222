"""Settings of the whole suite: eight fake CPU devices, one compile cache, markers."""

import datetime
import gc
import getpass
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tests.compile_flags import FAST

# before jax is imported anywhere
os.environ['JAX_PLATFORMS'] = 'cpu'
_flags = ['--xla_force_host_platform_device_count=8', *FAST]
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *_flags]).strip()
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
os.environ['TRANSFORMERS_NO_ADVISORY_WARNINGS'] = '1'
# nothing is downloaded, and scores do not depend on what a machine has
os.environ['CROSSTRAINER_WORDNET'] = 'off'
# kept between runs: what compiles once in a suite of small models compiles again in the next
_cache = pathlib.Path(tempfile.gettempdir()) / f'crosstrainer_jax-compile-cache-{getpass.getuser()}'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_cache)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'

import filelock  # noqa: E402
import pytest  # noqa: E402

if TYPE_CHECKING:
  from crosstrainer_jax.run import Run

ROOT = pathlib.Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / 'shared' / 'data'


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption('--update-goldens', action='store_true', help='rewrite tests/golden instead of comparing with it')
  parser.addoption('--record', metavar='FILE', help='write a table of what ran, for the drills')


def pytest_configure(config: pytest.Config) -> None:
  if config.getoption('--record'):
    config.pluginmanager.register(Record(pathlib.Path(config.getoption('--record'))))


class Record:
  """Writes outcome, seconds and recorded properties (`record_property`) of every test to a Markdown page."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.titles: dict[str, str] = {}
    self.rows: list[str] = []

  def pytest_collection_finish(self, session: pytest.Session) -> None:
    for item in session.items:
      doc = getattr(getattr(item, 'function', None), '__doc__', None) or ''
      self.titles[item.nodeid] = doc.strip().split('\n')[0]

  def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
    if report.when == 'call' or (report.when == 'setup' and not report.passed):
      figures = ' · '.join(f'{name} {value}' for name, value in report.user_properties)
      title = self.titles.get(report.nodeid, '')
      self.rows.append(f'| `{report.nodeid}` | {title} | {report.outcome} | {report.duration:.0f} | {figures} |')

  def pytest_sessionfinish(self) -> None:
    if not self.rows:
      return
    git = ['git', '-C', str(ROOT), 'describe', '--always', '--dirty', '--abbrev=12']
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or 'not a checkout'
    machine = f'{os.cpu_count()} CPU cores, Python {platform.python_version()}, jax {importlib.metadata.version("jax")}'
    head = [
      '# Drills',
      '',
      f'The last result of `./run_tests.sh --slow`, which writes this page. {datetime.date.today()}, commit {commit},',
      f'{machine}.',
      '',
      '| drill | what it shows | outcome | seconds | measured |',
      '|---|---|---|---|---|',
    ]
    self.path.write_text('\n'.join([*head, *self.rows]) + '\n')


def pytest_collection_finish() -> None:
  # What is imported by now stays, and what tests leave behind can wait: to search millions of objects for rubbish again
  # and again takes a seventh of the time of all tests (698 s against 806 s).
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


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


@pytest.fixture(scope='session')
def write_dataset() -> Callable[..., pathlib.Path]:
  """Writes clips, given by pool, as a TFDS dataset of ArrayRecord; returns its directory."""
  import tensorflow_datasets as tfds

  from crosstrainer_jax.input.record import Clip, features_dict

  class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')
    pools: dict[str, list[Clip]]

    def _info(self) -> tfds.core.DatasetInfo:
      return tfds.core.DatasetInfo(builder=self, features=features_dict(), disable_shuffling=True)

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
      return {pool: self._generate_examples(pool) for pool in self.pools}

    def _generate_examples(self, pool: str) -> Iterator[tuple[int, dict]]:
      for number, clip in enumerate(self.pools[pool]):
        yield number, clip.to_example()

  def write(directory: pathlib.Path, pools: dict[str, list[Clip]]) -> pathlib.Path:
    tfds.disable_progress_bar()
    builder = Written(data_dir=directory, file_format='array_record')
    builder.pools = pools
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)

  return write


SMALL = (
  'data.skillsim.train_clips=12',
  'data.skillsim.test_clips=4',
  'training.batch_size=8',
  'stage1.epochs=1.0',
  'stage2.epochs=1.0',
  'decoder.num_layers=1',
  'assess.validation_clips=8',
  'assess.samples=2',
)


def _shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str, name: str) -> pathlib.Path:
  """A folder that all processes of the tests know."""
  base = tmp_path_factory.getbasetemp()
  return (base if worker_id == 'master' else base.parent) / name


@pytest.fixture(scope='session')
def retrieved(
  tmp_path_factory: pytest.TempPathFactory, worker_id: str, write_dataset: Callable[..., pathlib.Path]
) -> pathlib.Path:
  """The folder of a small finished run of `retrieve`, as `tests.retrieved` makes it. Tests must not change it."""
  from tests import retrieved

  home = _shared(tmp_path_factory, worker_id, 'retrieved')
  with filelock.FileLock(f'{home}.lock'):
    retrieved.make(home, write_dataset)
  return home


@pytest.fixture(scope='session')
def small_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> pathlib.Path:
  """The workdir of the main job on a handful of clips; `../datasets` holds its data. Tests must not change it.

  Where tests run in several processes they share it: the first one that needs it makes it. So do several runs of the
  tests, where CROSSTRAINER_TESTS_MAIN_JOB names a folder for it.
  """
  from crosstrainer_jax import settings, train

  home = _shared(tmp_path_factory, worker_id, 'main_job')
  home = pathlib.Path(os.environ.get('CROSSTRAINER_TESTS_MAIN_JOB', home))
  with filelock.FileLock(f'{home}.lock'):
    config = settings.load_config('configs/cross_sport.py:smoke', SMALL)
    train.run(config, home / 'run', home / 'datasets', './launch_tpu.sh configs/cross_sport.py:smoke')
  return home / 'run'


@pytest.fixture(scope='session')
def small_data(small_run: pathlib.Path) -> pathlib.Path:
  """The directory of the dataset that `small_run` was trained on."""
  return next((small_run.parent / 'datasets').rglob('dataset_info.json')).parent


@pytest.fixture(scope='session')
def run(small_run: pathlib.Path, small_data: pathlib.Path) -> 'Run':
  """`small_run`, opened. Tests must not change it."""
  from crosstrainer_jax import provenance
  from crosstrainer_jax.run import open_run

  return open_run(provenance.recorded_config(small_run), small_run, small_data)
