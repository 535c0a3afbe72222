"""The wheel carries every module and data file, and works from another folder; what is imported is declared."""

import ast
import configparser
import os
import pathlib
import re
import runpy
import subprocess
import sys
import sysconfig
import time
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = {
  'crosstrainer_jax': 'crosstrainer_jax',
  'configs': 'crosstrainer_jax/configs',
  'data': 'crosstrainer_jax/datasets',
}
# Pictures of the pages in the repository; nothing reads them at run time.
NOT_SHIPPED = {'.png', '.jpg', '.svg'}

# Import names that differ from the name on the package index.
DISTRIBUTIONS = {
  'PIL': 'pillow',
  'absl': 'absl-py',
  'cv2': 'opencv-python-headless',
  'orbax': 'orbax-checkpoint',
  'rouge_score': 'rouge-score',
  'sklearn': 'scikit-learn',
  'tensorflow_datasets': 'tensorflow-datasets',
  'webvtt': 'webvtt-py',
}
# Declared although nothing here imports them, each with the reason.
NOT_IMPORTED = {
  'array-record': 'tensorflow-datasets writes and reads ArrayRecord with it',
  'importlib-resources': 'tensorflow-datasets imports it and does not declare it',
  'pillow': 'tensorboardX encodes images with it',
  'tensorboard': 'the command that shows the curves',
}

# Imported where they are needed, with a message that names the extra.
OPTIONAL = {'apache-beam': 'beam', 'matplotlib': 'plot', 'qwix': 'qlora'}


def _requirement_names(lines: str) -> set[str]:
  return {_normal(re.split(r'[^\w.-]', line.strip(), maxsplit=1)[0]) for line in lines.splitlines() if line.strip()}


def _normal(name: str) -> str:
  return re.sub(r'[-_.]+', '-', name).lower()


def _setup() -> configparser.ConfigParser:
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  return setup


def _sources(patterns: str = '*') -> dict[str, pathlib.Path]:
  """Files of the product by their place in the wheel."""
  found = {}
  for folder, inside in FOLDERS.items():
    for path in (ROOT / folder).rglob(patterns):
      if path.is_file() and '__pycache__' not in path.parts and path.suffix not in NOT_SHIPPED:
        found[f'{inside}/{path.relative_to(ROOT / folder).as_posix()}'] = path
  return found


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A copy of what the package is made of, so that building leaves the checkout clean."""
  source = tmp_path_factory.mktemp('packaging') / 'source'
  for path in [*_sources().values(), *(ROOT / n for n in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'))]:
    if path.is_file():
      copy = source / path.relative_to(ROOT)
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  return source


@pytest.fixture(scope='module')
def wheel(source):
  """The wheel, built with what is installed, which needs no network."""
  command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-build-isolation', '--no-deps', '--no-index']
  done = subprocess.run([*command, '--wheel-dir', source.parent, source], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  [path] = source.parent.glob('*.whl')
  return path


def test_wheel_holds_every_file(wheel):
  with zipfile.ZipFile(wheel) as archive:
    held = {name for name in archive.namelist() if '.dist-info/' not in name}
  assert held == set(_sources())


def test_wheel_is_small(wheel):
  assert wheel.stat().st_size < 10e6


def test_wheel_works_from_another_folder(wheel, tmp_path):
  """Imported from the unpacked wheel, not from the checkout, the package finds its configs, datasets and files."""
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(tmp_path / 'installed')
  program = """
import importlib.resources, sys
import crosstrainer_jax
from crosstrainer_jax import provenance, settings
import crosstrainer_jax.datasets.skillsim, crosstrainer_jax.datasets.manifest
assert crosstrainer_jax.__file__.startswith(sys.argv[1]), crosstrainer_jax.__file__
assert crosstrainer_jax.datasets.__file__.startswith(sys.argv[1]), crosstrainer_jax.datasets.__file__
configs = settings.shipped_configs()
for config in configs:
  settings.load_config(config)
assert provenance.record_environment(sys.argv[2], settings.load_config(configs[0]), {}) is None
print(len(configs), importlib.resources.files('crosstrainer_jax.input').joinpath('prompts.toml').is_file())
"""
  # -S leaves out site-packages and with it the editable install; the libraries come back after the wheel
  environment = {
    'PYTHONPATH': f'{tmp_path / "installed"}:{sysconfig.get_paths()["purelib"]}',
    'JAX_PLATFORMS': 'cpu',
    'PATH': '',
  }
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  command = [sys.executable, '-S', '-c', program, str(tmp_path / 'installed'), str(elsewhere / 'run')]
  done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  shipped = sum('def get_config(' in p.read_text() for p in (ROOT / 'configs').glob('*.py'))
  assert done.stdout.split() == [str(shipped), 'True']


def test_what_is_imported_is_declared():
  declared = _requirement_names(_setup()['options']['install_requires'])
  imported = set()
  for path in _sources('*.py').values():
    imported |= _imports(path)
  needed = {
    _normal(DISTRIBUTIONS.get(name, name)) for name in imported - {'crosstrainer_jax', *sys.stdlib_module_names}
  }
  for name, extra in OPTIONAL.items():
    assert name in needed & _requirement_names(_setup()['options.extras_require'][extra])
  needed -= set(OPTIONAL)
  undeclared, unused = sorted(needed - declared), sorted(declared - needed - set(NOT_IMPORTED))
  assert not undeclared, f'imported, but not in setup.cfg: {undeclared}'
  assert not unused, f'in setup.cfg, but not imported: {unused}'
  assert set(NOT_IMPORTED) <= declared


def _imports(path: pathlib.Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
      found.add(node.module.split('.')[0])
  return found


def test_every_folder_with_code_is_a_package():
  packages = {line.strip() for line in _setup()['options']['packages'].splitlines() if line.strip()}
  assert packages == {pathlib.PurePosixPath(name).parent.as_posix().replace('/', '.') for name in _sources('*.py')}


# --- The verbs, installed

# What the drill does with each verb, in this order; the files are those of `.ci/readme.py`.
RUNS = {
  'train': ['--config=configs/cross_sport.py:smoke'],
  'eval': [],
  'assess': ['new_video.mp4', '--json'],
  'discover': ['--dataset', 'skillsim'],
  'prepare': ['manifest.jsonl', '--name', 'mine'],
  # what it looks at must be asked for from others
  'doctor': ['egoexo4d', '--help'],
  # minutes each; the tests train small ones
  'represent': ['--dry-run'],
  'retrieve': ['--dry-run'],
  'curate': ['world', '--output', 'howto', '--videos', '2'],
  'features': ['mine'],
  'export': ['runs/cross_sport-smoke', '--output', 'exported'],
  'fit': ['configs/cross_sport.py', '--topology', 'h100:1', '--analytic'],
  'sweep': ['transfer', '--dry-run'],
  'pretrain': [
    f'--config.{setting}' for setting in ('steps=2', 'batch_size=2', 'test_clips=4', 'encoder.model.layers=1')
  ],
}


def _verbs() -> set[str]:
  modules = (ROOT / 'crosstrainer_jax').glob('*.py')
  return {path.stem for path in modules if "\nif __name__ == '__main__':" in path.read_text()}


def _run(python: str | pathlib.Path, folder: pathlib.Path, *arguments: str) -> str:
  """Standard output of `python arguments` in `folder`, as in a user's shell; must end well, but for absl's --help."""
  ours = ('PYTHONPATH', 'XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')
  environment = {name: value for name, value in os.environ.items() if name not in ours}
  done = subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
  assert done.returncode == 0 or '--help' in arguments, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr, done.stderr
  return done.stdout


@pytest.mark.parametrize('verb', sorted(_verbs()))
def test_every_verb_explains_itself(verb, tmp_path):
  said = _run(sys.executable, tmp_path, '-m', f'crosstrainer_jax.{verb}', '--help')
  assert f'crosstrainer_jax.{verb}' in said
  if verb == 'sweep':  # flags that it shares with train, and none that it does not
    for flag in ('--seeds', '--held_out', '--write', '--sweep_dir', '--data_dir', '--override'):
      assert flag in said
    assert '--workdir' not in said
  assert not list(tmp_path.iterdir())


def test_the_drill_knows_every_verb():
  assert set(RUNS) == _verbs()


@pytest.mark.slow
def test_wheel_in_an_empty_environment(wheel, source, tmp_path, record_property):
  """The wheel, in an empty environment, runs every verb from another folder; an editable install from its root too."""
  python = tmp_path / 'environment' / 'bin' / 'python'
  subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'environment'], check=True)
  where = ['-c', 'import crosstrainer_jax as c, crosstrainer_jax.configs as k; print(c.__file__, k.__file__)']
  start = time.monotonic()
  subprocess.run([python, '-m', 'pip', 'install', '--quiet', wheel], check=True)
  record_property('installation, s', round(time.monotonic() - start))
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  assert _run(python, elsewhere, *where).count('site-packages') == 2
  _write_videos(elsewhere)
  for verb, arguments in RUNS.items():
    start = time.monotonic()
    assert _run(python, elsewhere, '-m', f'crosstrainer_jax.{verb}', *arguments).strip()
    record_property(f'{verb}, s', round(time.monotonic() - start))
    assert f'crosstrainer_jax.{verb}' in _run(python, elsewhere, '-m', f'crosstrainer_jax.{verb}', '--help')

  subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--editable', source], check=True)
  for folder in (source, elsewhere):
    assert _run(python, folder, *where).split() == [
      str(source / 'crosstrainer_jax' / '__init__.py'),
      str(source / 'configs' / '__init__.py'),
    ]
    for verb in RUNS:
      assert f'crosstrainer_jax.{verb}' in _run(python, folder, '-m', f'crosstrainer_jax.{verb}', '--help')
    for verb in ('eval', 'discover', 'sweep'):
      assert _run(python, folder, '-m', f'crosstrainer_jax.{verb}', *RUNS[verb], *_at(elsewhere, verb)).strip()
  record_property('verbs', len(RUNS))


def _at(folder: pathlib.Path, verb: str) -> list[str]:
  """Options with which a verb finds, from any folder, what the drill has made."""
  options = ['--data_dir', str(folder / 'runs' / 'datasets')]
  return options + ['--runs', str(folder / 'runs')] if verb == 'eval' else options


def _write_videos(folder: pathlib.Path) -> None:
  runpy.run_path(str(ROOT / '.ci' / 'readme.py'))['write_videos'](folder)
