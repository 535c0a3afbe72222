"""Configs of a run: loaded, overridden, checked.

A config is a Python file with `get_config(arg)` that returns an `ml_collections.ConfigDict`. A verb reads it so:

    settings.define_config_flag()

    def main(argv):
      config = settings.config_from_flags()

    if __name__ == '__main__':
      settings.run(main)

and its user writes `--config=configs/cross_sport.py:held_out=soccer --config.stage1.epochs=2`.
"""

import ast
import hashlib
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections
from absl import app, flags, logging

from crosstrainer_jax import rules
from crosstrainer_jax.configs import arguments
from crosstrainer_jax.input.buckets import as_path, in_bucket
from crosstrainer_jax.training import preemption

# what is defined here for a verb shows in that verb's --help
flags.disclaim_key_flags()

# Settings of which a run may change its mind: they decide nothing that is trained.
DURING_A_RUN = (
  'eval.',
  'assess.',
  # the machine, and how it is watched
  'mesh',
  'training.workers',
  'training.threads',
  'training.prefetch',
  'training.save_every',
  'training.log_every',
  'training.evaluate_every',
  'training.keep',
  'training.watchdog',
  'training.profile_',
  # where and how fast a language model is asked, not what
  'discovery.base_url',
  'discovery.api_key_env',
  'discovery.concurrency',
  'discovery.requests_per_minute',
  'discovery.timeout',
  'discovery.answers',
)


class SettingsError(ValueError):
  """What the user wrote cannot be: the message names the place and the remedy, and is all that `run` prints."""


# --- Loading


def load_config(path_with_arg: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """Loads, overrides and checks a config.

  Args:
    path_with_arg: `configs/cross_sport.py`, optionally with an argument after a colon. The path is looked for in the
      working directory first and among the installed configs then.
    overrides: `a.b=value`, with or without a leading `--config.`; later ones win.

  Returns:
    The locked config.

  Raises:
    SettingsError: no such file or argument, an unknown key, a value of the wrong type, or values that do not fit
      together.
  """
  path, _, arg = path_with_arg.partition(':')
  config = _get_config(_find(path), arg or None)
  config.lock()
  for override in overrides:
    _apply(config, override.removeprefix('--config.'))
  # A run is opened from other folders as well.
  for part in ('encoder', 'decoder', 'lora', 'mapper'):
    weights = flatten(config).get(f'{part}.weights', '')
    if weights and pathlib.Path(weights).exists():
      config[part].weights = str(pathlib.Path(weights).absolute())
  parent = flatten(config).get('init.from_run', '')
  if parent and not in_bucket(parent):
    config.init.from_run = os.path.abspath(parent)
  problems = rules.problems(flatten(config))
  if problems:
    raise SettingsError('\n'.join([f'{path_with_arg} does not fit together:', *(f'  {p}' for p in problems)]))
  return config


def config_name(path_with_arg: str) -> str:
  """`cross_sport` of `configs/cross_sport.py:smoke`."""
  return pathlib.PurePath(path_with_arg.partition(':')[0]).stem


def run_name(path_with_arg: str, overrides: Sequence[str] = ()) -> str:
  """`cross_sport-smoke-seed=1` of `configs/cross_sport.py:smoke` with `seed=1`: a run's default folder under `runs/`.

  Overrides that a run may change later (`DURING_A_RUN`) are no part of its name.
  """
  changed = [o.removeprefix('--config.') for o in overrides]
  changed = [o for o in changed if not o.startswith(DURING_A_RUN)]
  parts = [config_name(path_with_arg), path_with_arg.partition(':')[2], ','.join(changed)]
  name = re.sub(r'[^A-Za-z0-9_=.,-]', '_', '-'.join(filter(None, parts)))
  # file systems take 255 bytes
  return name if len(name) <= 200 else f'{name[:180]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}'


def shipped_configs() -> list[str]:
  """Every config of the package, as `configs/name.py`."""
  folder = _configs_folder()
  return [f'configs/{p.name}' for p in sorted(folder.glob('*.py')) if 'def get_config(' in p.read_text()]


def _configs_folder() -> pathlib.Path:
  return pathlib.Path(arguments.__file__).resolve().parent


def _find(path: str) -> pathlib.Path:
  for candidate in (pathlib.Path(path), _configs_folder() / pathlib.PurePath(path).name):
    if candidate.is_file():
      return candidate
  names = [pathlib.PurePath(p).stem for p in shipped_configs()]
  raise SettingsError(f'there is no config {path}: {arguments.nearest(config_name(path), names)}')


def _get_config(path: pathlib.Path, arg: str | None) -> ml_collections.ConfigDict:
  spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
  if spec is None or spec.loader is None:
    raise SettingsError(f'{path} is not a Python file')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  get_config = getattr(module, 'get_config', None)
  if get_config is None:
    raise SettingsError(f'{path} has no function get_config')
  takes_arg = bool(inspect.signature(get_config).parameters)
  if arg and not takes_arg:
    raise SettingsError(f'{path} takes no argument, but {arg!r} was given')
  try:
    return get_config(arg) if takes_arg else get_config()
  except ValueError as error:
    raise SettingsError(f'{path}: {error}') from error


# --- Overriding


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The leaves of a config by their dotted path, sorted."""
  return dict(sorted(_leaves(config)))


def _leaves(config: ml_collections.ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _leaves(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _apply(config: ml_collections.ConfigDict, override: str) -> None:
  path, given, text = override.partition('=')
  known = flatten(config)
  if path not in known:
    inside = [k for k in known if k.startswith(f'{path}.')]
    if inside:
      raise SettingsError(f'--config.{path} is a group of settings: {", ".join(inside)}')
    # a forgotten group is the usual mistake, and too far for a measure of spelling
    same_leaf = [k for k in known if k.rpartition('.')[2] == path.rpartition('.')[2]]
    hint = f'did you mean {" or ".join(same_leaf)}?' if same_leaf else arguments.nearest(path, known)
    raise SettingsError(f'unknown setting --config.{path}: {hint}')
  if not given:
    raise SettingsError(f'--config.{path} has no value: write --config.{path}={known[path]}')
  group = config
  *parents, key = path.split('.')
  for parent in parents:
    group = group[parent]
  group[key] = _parse(path, text, known[path], group.get_type(key))


def _parse(path: str, text: str, old: Any, kind: type) -> Any:
  """The value that `text` stands for, of the type of the value that it replaces."""
  if text.lower() == 'none' and kind is not str:
    if old is not None:
      raise SettingsError(f'--config.{path} is {old!r} and cannot be none')
    return None
  try:
    if kind is bool:
      return {'true': True, 'false': False}[text.lower()]
    if kind in (int, float, str):
      return kind(text)
    value = ast.literal_eval(text)
    if kind not in (tuple, list):
      return value
    # `3,4` and `(3,4)` are the same; so is a single `3`
    values = kind(value) if isinstance(value, (tuple, list)) else kind([value])
    kinds = {type(item) for item in old or ()}
    if len(kinds) == 1 and not all(isinstance(item, tuple(kinds)) for item in values):
      raise ValueError
    return values
  except (KeyError, ValueError, SyntaxError):
    raise SettingsError(f'--config.{path} is {_NOUNS.get(kind, kind.__name__)} such as {old!r}, not {text!r}') from None


_NOUNS = {bool: 'true or false', int: 'an integer', float: 'a number', tuple: 'a tuple', list: 'a list'}


# --- The command line


def define_config_flag(default: str | None = None) -> None:
  """Defines `--config` for a verb; `run` makes `--config.key=value` work beside it."""
  flags.DEFINE_string('config', default, 'Config file, with an argument after a colon: configs/cross_sport.py:smoke')
  flags.DEFINE_multi_string('override', [], 'A setting to change, a.b=value; the same as --config.a.b=value')


def define_run_flags(default: str, kept: str) -> None:
  """Defines the flags of a verb that trains and reports by a config, into a workdir of its own; `kept` says what."""
  define_config_flag(default)
  flags.DEFINE_string('workdir', '', f'{kept} go here; by default runs/<config>.')
  flags.DEFINE_string('data_dir', 'runs/datasets', 'Where prepared datasets lie.')
  flags.DEFINE_multi_string('runs', [], 'Workdir of a finished run; several print their mean, and train nothing.')
  flags.DEFINE_bool('dry-run', False, 'Print what would be done, and do nothing.')


def workdir_from_flags() -> pathlib.Path:
  """The workdir that the flags of `define_run_flags` describe."""
  return as_path(flags.FLAGS.workdir or pathlib.Path('runs') / run_name(flags.FLAGS.config, flags.FLAGS.override))


def config_from_flags() -> ml_collections.ConfigDict:
  """The config that the command line describes."""
  if not flags.FLAGS.config:
    raise SettingsError(f'no config was given: write --config=… with one of {", ".join(shipped_configs())}')
  return load_config(flags.FLAGS.config, flags.FLAGS.override)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parser, which also takes `--config.a.b=value`; returns the program's name and the positional arguments."""
  return app.parse_flags_with_usage([re.sub(r'^--?config\.', '--override=', argument) for argument in argv])


def run(main: Callable[[list[str]], None]) -> None:
  """Runs a verb: `absl.app.run` with `--config.a.b=value`, and without a stack trace for what the user can mend.

  A ValueError, OSError or FloatingPointError that this package raised itself is a message for the user; one that comes
  out of a library below is a bug, and keeps its stack trace. SIGTERM ends the verb as `training/preemption.py` says.
  """

  def guarded(argv: list[str]) -> None:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # what matters of the rest, the verbs print themselves
    try:
      with preemption.listening():
        main(argv)
    except (ValueError, OSError, FloatingPointError) as error:
      if not _raised_here(error):
        raise
      sys.exit(f'Error: {error}')
    except KeyboardInterrupt:
      print('\nInterrupted; the same command goes on from what is done.', file=sys.stderr)
      sys.exit(130)

  app.run(guarded, flags_parser=parse_flags)


def _raised_here(error: BaseException) -> bool:
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  return bool(frames) and frames[-1].f_globals.get('__name__', '').startswith(
    ('crosstrainer_jax.', '__main__', 'config_')
  )


def keep_compiled(folder: str | os.PathLike[str]) -> None:
  """Keeps compiled programs under `folder`, so that a resumed run, an evaluation or a sweep does not compile again."""
  place = os.fspath(folder) if in_bucket(folder) else os.path.abspath(folder)
  jax.config.update('jax_compilation_cache_dir', f'{place}/.compiled')
  # small programs are many; to ask a bucket for each takes longer than compiling it
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5 if in_bucket(folder) else 0.0)


def dump(config: ml_collections.ConfigDict) -> str:
  """Stable text of a config: sorted lines `a.b.c = value`."""
  return ''.join(f'{path} = {value!r}\n' for path, value in flatten(config).items())
