"""Tests of crosstrainer_jax/settings.py and configs/arguments.py, and the golden dumps of every shipped config."""

import pathlib
import re
import subprocess
import sys

import ml_collections
import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.configs import arguments

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / 'tests' / 'golden' / 'configs'

EXAMPLE = """
import ml_collections
from ml_collections import config_dict
from crosstrainer_jax.configs import arguments

def get_config(arg=None):
  a = arguments.parse_arg(arg, held_out='soccer', seed=0, smoke=False)
  arguments.one_of('held_out', a.held_out, ['basketball', 'soccer'])
  return ml_collections.ConfigDict(dict(
      seed=a.seed, held_out=a.held_out,
      stage1=dict(epochs=1 if a.smoke else 8, lr=1e-3, shuffle=True, rates=((r'mapper', 1.0),), betas=(0.9, 0.99)),
      limit=config_dict.placeholder(int),
  ))
"""


@pytest.fixture
def example(tmp_path):
  path = tmp_path / 'example.py'
  path.write_text(EXAMPLE)
  return str(path)


def test_defaults_and_arguments(example):
  assert settings.load_config(example).stage1.epochs == 8
  config = settings.load_config(f'{example}:held_out=basketball,seed=3,smoke')
  assert (config.held_out, config.seed, config.stage1.epochs) == ('basketball', 3, 1)


def test_the_config_is_locked(example):
  with pytest.raises(AttributeError, match='locked'):
    settings.load_config(example).nothing = 1


@pytest.mark.parametrize(
  ('override', 'expected'),
  [
    ('seed=4', ('seed', 4)),
    ('--config.seed=4', ('seed', 4)),
    ('held_out=7', ('held_out', '7')),
    ('held_out=a=b', ('held_out', 'a=b')),
    ('stage1.lr=1', ('stage1.lr', 1.0)),
    ('stage1.lr=3e-4', ('stage1.lr', 3e-4)),
    ('stage1.shuffle=False', ('stage1.shuffle', False)),
    ('stage1.betas=0.5,0.6', ('stage1.betas', (0.5, 0.6))),
    ('stage1.betas=(0.5,)', ('stage1.betas', (0.5,))),
    ('limit=5', ('limit', 5)),
    ('limit=none', ('limit', None)),
  ],
)
def test_overrides(example, override, expected):
  path, value = expected
  got = settings.flatten(settings.load_config(example, [override]))[path]
  assert got == value
  assert type(got) is type(value)


def test_the_last_override_wins(example):
  assert settings.load_config(example, ['seed=1', 'seed=2']).seed == 2


@pytest.mark.parametrize(
  ('argument', 'overrides', 'message'),
  [
    (':heldout=soccer', [], r"unknown config argument 'heldout': did you mean held_out\?"),
    (':held_out=socker', [], r'held_out=socker is not known: did you mean soccer\?'),
    (':seed=one', [], "config argument seed is an integer, not 'one'"),
    (':seed', [], 'config argument seed needs a value: seed=0'),
    (':smoke=2', [], "config argument smoke is true or false, not '2'"),
    (':seed=1,seed=2', [], "config argument 'seed' is given twice"),
    (':xyzzy', [], 'valid: held_out, seed, smoke'),
    ('', ['stage1.epoch=2'], r'unknown setting --config.stage1.epoch: did you mean stage1.epochs\?'),
    ('', ['lr=2'], r'unknown setting --config.lr: did you mean stage1.lr\?'),
    ('', ['seed.x=2'], r'unknown setting --config.seed.x'),
    ('', ['stage1=2'], '--config.stage1 is a group of settings: stage1.betas, stage1.epochs'),
    ('', ['stage1.epochs'], '--config.stage1.epochs has no value: write --config.stage1.epochs=8'),
    ('', ['stage1.epochs=two'], "--config.stage1.epochs is an integer such as 8, not 'two'"),
    ('', ['stage1.epochs=1.5'], "is an integer such as 8, not '1.5'"),
    ('', ['stage1.epochs=none'], 'is 8 and cannot be none'),
    ('', ['stage1.lr=fast'], "is a number such as 0.001, not 'fast'"),
    ('', ['stage1.shuffle=maybe'], "is true or false such as True, not 'maybe'"),
    ('', ['stage1.betas=(a,b)'], 'is a tuple such as'),
    ('', ['stage1.betas="a","b"'], 'is a tuple such as'),
    ('', ['limit=many'], "is an integer such as None, not 'many'"),
  ],
)
def test_refusals(example, argument, overrides, message):
  with pytest.raises(settings.SettingsError, match=message):
    settings.load_config(example + argument, overrides)


def test_a_missing_config_is_named():
  with pytest.raises(settings.SettingsError, match='there is no config configs/nothing_like_it.py'):
    settings.load_config('configs/nothing_like_it.py')


def test_a_config_without_argument_refuses_one(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text('import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({"a": 1})\n')
  assert settings.load_config(str(path)).a == 1
  with pytest.raises(settings.SettingsError, match="takes no argument, but 'smoke' was given"):
    settings.load_config(f'{path}:smoke')


def test_shipped_configs_are_found_from_another_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path in settings.shipped_configs():
    assert isinstance(settings.load_config(path), ml_collections.ConfigDict)


def test_inconsistent_values_are_refused(example):
  with pytest.raises(settings.SettingsError, match='does not fit together:\n  seed is -1, not at least 0'):
    settings.load_config(example, ['seed=-1'])


def test_the_run_is_named_after_the_config_and_its_argument():
  assert settings.run_name('configs/cross_sport.py') == 'cross_sport'
  assert (
    settings.run_name('configs/cross_sport.py:held_out=rock climbing,seed=1')
    == 'cross_sport-held_out=rock_climbing,seed=1'
  )


def test_what_a_run_may_not_change_later_is_in_its_name():
  def name(*overrides):
    return settings.run_name('configs/cross_sport.py:smoke', overrides)

  assert name('seed=1') == name('--config.seed=1') == 'cross_sport-smoke-seed=1'
  assert name('seed=1', 'training.frozen=(1, -1, 1)') == 'cross_sport-smoke-seed=1,training.frozen=_1,_-1,_1_'
  assert name('eval.resamples=10', 'assess.samples=4') == 'cross_sport-smoke'
  long = [name(f'training.optimizer.learning_rate_rules={"x" * 300}{n}') for n in range(2)]
  assert long[0] != long[1]
  assert max(map(len, long)) <= 200


# --- The command line

VERB = """
import json

from crosstrainer_jax import settings
settings.define_config_flag()

def main(argv):
  config = settings.config_from_flags()
  print(config.seed, config.stage1.lr, argv[1:])
  if config.seed == 5:
    json.loads('{')
  if config.seed == 6:
    raise KeyboardInterrupt

if __name__ == '__main__':
  settings.run(main)
"""


def _verb(tmp_path, *arguments):
  path = tmp_path / 'verb.py'
  path.write_text(VERB)
  return subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True)


def test_a_verb_reads_its_config(tmp_path, example):
  done = _verb(tmp_path, f'--config={example}:seed=2', '--config.stage1.lr=0.5', 'clip.mp4')
  assert done.stdout == "2 0.5 ['clip.mp4']\n", done.stderr


def test_help_of_a_verb_shows_the_config(tmp_path):
  done = _verb(tmp_path, '--help')
  assert '--config: Config file, with an argument after a colon' in done.stdout
  assert '--override: A setting to change' in ' '.join(done.stdout.split())


def test_a_verb_answers_a_mistake_without_a_stack_trace(tmp_path, example):
  done = _verb(tmp_path, f'--config={example}', '--config.stage1.rate=0.5')
  assert done.returncode != 0
  assert done.stderr.startswith('Error: unknown setting --config.stage1.rate: did you mean stage1.rates?')
  assert 'Traceback' not in done.stderr


def test_an_error_from_below_keeps_its_stack_trace(tmp_path, example):
  done = _verb(tmp_path, f'--config={example}:seed=5')
  assert done.returncode != 0
  assert 'Traceback' in done.stderr


def test_an_interrupted_verb_says_how_to_go_on(tmp_path, example):
  done = _verb(tmp_path, f'--config={example}:seed=6')
  assert done.returncode == 130
  assert done.stderr.strip() == 'Interrupted; the same command goes on from what is done.'


# --- Writing down


def test_dump_is_sorted_and_stable(example):
  lines = settings.dump(settings.load_config(example)).splitlines()
  assert lines == sorted(lines)
  assert 'stage1.lr = 0.001' in lines
  assert "held_out = 'soccer'" in lines


# --- The golden dumps


def _golden(path_with_arg: str) -> pathlib.Path:
  path, _, arg = path_with_arg.partition(':')
  return GOLDEN / f'{pathlib.PurePath(path).stem}{f"-{arg}" if arg else ""}.txt'


def _documented() -> list[str]:
  """Every shipped config, alone and with each argument that its docstring or the launch script's help shows."""
  launch = (ROOT / 'launch_tpu.sh').read_text()
  found = []
  for path in settings.shipped_configs():
    text = (ROOT / path).read_text() + launch
    found += [path, *sorted(set(re.findall(rf'{re.escape(path)}:[\w=,.-]+\w', text)))]
  return found


@pytest.mark.parametrize('path_with_arg', _documented())
def test_golden_dump(path_with_arg, request):
  """A changed default shows in review. After a wanted change: pytest tests/test_settings.py --update-goldens."""
  golden = _golden(path_with_arg)
  got = settings.dump(settings.load_config(path_with_arg))
  if request.config.getoption('--update-goldens'):
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text(got)
  assert golden.is_file(), f'{golden} is missing: run pytest with --update-goldens'
  assert got.splitlines() == golden.read_text().splitlines()


def test_no_golden_without_its_config():
  assert set(GOLDEN.glob('*.txt')) == {_golden(path_with_arg) for path_with_arg in _documented()}


def test_nearest_names_all_when_none_is_near():
  assert arguments.nearest('zzz', ['b', 'a']) == 'valid: a, b'
