"""What holds for the whole tree: the direction of imports, forbidden imports, sizes, names, a test for each module."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = 'crosstrainer_jax'
# Top-level folders by the package that they are installed as.
FOLDERS = {'crosstrainer_jax': PACKAGE, 'configs': f'{PACKAGE}.configs', 'data': f'{PACKAGE}.datasets'}

# A room may import from itself and from every room before it (docs/architecture.md).
ORDER = ['input', 'discovery', 'weights', 'models', 'training', 'inference', 'baselines', 'evaluation', 'planning']
ALLOWED = {room: set(ORDER[: place + 1]) for place, room in enumerate(ORDER)}
# Some datasets come with features in files of PyTorch.
ALLOWED['datasets'] = {'datasets', 'input', 'weights'}
ALLOWED['configs'] = {'configs'}
# The entry points come last and may import everything.
ALLOWED['verbs'] = {*ORDER, 'datasets', 'configs', 'verbs'}

# torch serves the parity tests alone; TensorFlow is not needed anywhere, and these parts of clu would import it.
FORBIDDEN_IMPORTS = (
  'torch',
  'torchvision',
  'tensorflow',
  'keras',
  'clu.metric_writers',
  'clu.periodic_actions',
  'clu.checkpoint',
)
MEANINGLESS_NAMES = {'util', 'utils', 'helper', 'helpers', 'common', 'misc', 'core', 'base', 'manager', 'lib'}

# Modules without a test of the same name, each with the reason.
SPORTS = f'{PACKAGE}.datasets.skillsim.sports'
EXEMPT: dict[str, str] = {
  **{
    f'{SPORTS}.{sport}': 'poses of one sport: the tests of the world run over every sport'
    for sport in (
      'basketball',
      'climbing',
      'fitness',
      'soccer',
    )
  },
  f'{SPORTS}.skill': 'the record that those files fill',
}

LINES_MOSTLY, LINES_AT_MOST = 400, 600


def modules() -> dict[str, pathlib.Path]:
  """Every module of the product by its dotted name."""
  found = {}
  for folder, package in FOLDERS.items():
    for path in sorted((ROOT / folder).rglob('*.py')):
      inner = path.relative_to(ROOT / folder).with_suffix('').parts
      name = '.'.join([package, *inner])
      found[name.removesuffix('.__init__')] = path
  return found


def room_of(module: str) -> str:
  """The room that a module of the package lies in; `verbs` for the package itself and its entry points."""
  parts = module.split('.')
  return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else 'verbs'


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
  """Dotted names that a module imports, at its top or lazily, relatively, or by a name in a string."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      parent = module.split('.')[: len(module.split('.')) - node.level + is_package] if node.level else []
      origin = '.'.join([*parent, *([node.module] if node.module else [])])
      # `from crosstrainer_jax import models` names a module too
      found.update(f'{origin}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      # registries and import_module
      named = re.fullmatch(rf'({PACKAGE}(?:\.\w+)+)(?::\w+)?', node.value)
      if named:
        found.add(named[1])
  return found


def wrong_imports(imported: set[str], module: str) -> list[str]:
  """Those of `imported` that the room of `module` may not see."""
  inside = {name for name in imported if name == PACKAGE or name.startswith(f'{PACKAGE}.')}
  return sorted(name for name in inside if room_of(name) not in ALLOWED[room_of(module)])


@pytest.mark.parametrize('module', modules())
def test_imports_go_one_way(module):
  path = modules()[module]
  imported = imports_of(path.read_text(), module, path.name == '__init__.py')
  # `from crosstrainer_jax import x` of something that is no module is the package itself
  assert not wrong_imports(imported, module), (
    f'{path} ({room_of(module)}) may import {sorted(ALLOWED[room_of(module)])} alone'
  )


@pytest.mark.parametrize(
  ('source', 'module', 'wrong'),
  [
    ('from crosstrainer_jax.training import loop', 'models.mapper', 'training.loop'),
    ('from crosstrainer_jax import training', 'models.mapper', 'training'),
    ('from ..training import loop', 'models.mapper', 'training.loop'),
    ('def f():\n  import crosstrainer_jax.evaluation.report', 'input.record', 'evaluation.report'),
    ("import_module('crosstrainer_jax.models.decoder')", 'datasets.skillsim.world', 'models.decoder'),
    ("R = {'a': 'crosstrainer_jax.models.decoder:Decoder'}", 'input.record', 'models.decoder'),
    ('from crosstrainer_jax.input import record', 'configs.cross_sport', 'input.record'),
    ('from crosstrainer_jax import train', 'evaluation.report', 'train'),
  ],
)
def test_a_wrong_import_is_seen(source, module, wrong):
  assert wrong_imports(imports_of(source, f'{PACKAGE}.{module}'), f'{PACKAGE}.{module}') == [f'{PACKAGE}.{wrong}']


@pytest.mark.parametrize(
  ('source', 'module'),
  [
    ('from crosstrainer_jax.input import record\nimport numpy', 'models.mapper'),
    ('from . import decoder', 'models.mapper'),
    ('from crosstrainer_jax.evaluation import report', 'train'),
    ('"""See crosstrainer_jax.training.loop for the loop."""', 'input.record'),
  ],
)
def test_a_right_import_passes(source, module):
  assert wrong_imports(imports_of(source, f'{PACKAGE}.{module}'), f'{PACKAGE}.{module}') == []


@pytest.mark.parametrize('module', modules())
def test_no_other_framework(module):
  path = modules()[module]
  imported = imports_of(path.read_text(), module, path.name == '__init__.py')
  found = [name for name in imported if any(f'{name}.'.startswith(f'{bad}.') for bad in FORBIDDEN_IMPORTS)]
  assert not found, f'{path} imports {found}'


def test_every_module_has_its_test():
  """A test of the same name; modules of a dataset, which belong together, may share one that imports them."""
  tests = {path.relative_to(ROOT / 'tests').as_posix(): path for path in (ROOT / 'tests').rglob('test_*.py')}
  imported_by_tests = set()
  for name, path in tests.items():
    if name.startswith('datasets/'):
      imported_by_tests |= imports_of(path.read_text(), 'tests')
  missing = []
  for module, path in modules().items():
    if path.name == '__init__.py' or room_of(module) == 'configs' or module in EXEMPT:
      continue
    *folders, name = module.split('.')[1:]
    shared = room_of(module) == 'datasets' and any(f'{i}.'.startswith(f'{module}.') for i in imported_by_tests)
    if not shared and '/'.join([*folders, f'test_{name}.py']) not in tests:
      missing.append(f'{path.relative_to(ROOT)}: tests/{"/".join([*folders, f"test_{name}.py"])}')
  assert not missing, '\n'.join(['modules without their test:', *missing])


def test_exemptions_are_still_needed():
  unknown = [module for module in EXEMPT if module not in modules()]
  assert not unknown


def test_files_are_short():
  lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in modules().values()}
  too_long = {str(path): lines for path, lines in lengths.items() if lines > LINES_AT_MOST}
  assert not too_long, f'a file is one idea, of at most {LINES_AT_MOST} lines'
  long = {str(path): lines for path, lines in lengths.items() if lines > LINES_MOSTLY}
  assert len(long) <= len(lengths) // 10, f'files are mostly under {LINES_MOSTLY} lines; these are not: {long}'


def test_names_say_something():
  paths = [path.relative_to(ROOT) for folder in (*FOLDERS, 'tests') for path in (ROOT / folder).rglob('*.py')]
  bad = [
    str(path)
    for path in paths
    for part in path.with_suffix('').parts
    if MEANINGLESS_NAMES & {part, part.split('_')[-1]}
  ]
  assert not bad


def test_contributing_names_true_registries():
  """The table of CONTRIBUTING.md: every file and every registry in it exists."""
  rows = re.findall(
    r'^\| [\w ]+ \| .* \| `(\w+)` in `([\w./]+)` \| .* \|$', (ROOT / 'CONTRIBUTING.md').read_text(), re.M
  )
  assert len(rows) >= 5
  for name, file in rows:
    assert re.search(rf'^({name}\b.*=|def {name}\()', (ROOT / file).read_text(), re.M), f'{file} has no {name}'
