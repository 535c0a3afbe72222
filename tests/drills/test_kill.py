"""A run that is killed again and again ends with the scores of one that was left alone."""

import hashlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest

from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.training.preemption import PREEMPTED

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# A checkpoint now and then within every stage, which is otherwise too short for one.
COMMAND = ('./launch_tpu.sh', 'configs/cross_sport.py:smoke', '--config.training.save_every=3')
SEED = 20


class Job:
  """One start of the main command in a process group of its own, and what it prints."""

  def __init__(self, home: pathlib.Path):
    # no fake devices, no compile cache of the tests: what a user has
    ours = ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')
    self.start = time.monotonic()
    self.lines: list[str] = []
    self.process = subprocess.Popen(
      [*COMMAND, f'--workdir={home / "run"}', f'--data_dir={home / "datasets"}'],
      cwd=ROOT, env={name: value for name, value in os.environ.items() if name not in ours},
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip

  def output(self) -> Iterator[str]:
    """Lines as they come, until the end."""
    for line in self.process.stdout:
      self.lines.append(line.rstrip())
      yield line.rstrip()
    self.process.wait()

  def __enter__(self) -> 'Job':
    return self

  def __exit__(self, *error: object) -> None:
    if self.process.poll() is None:
      self.kill()
    self.process.stdout.close()

  def text(self) -> str:
    return '\n'.join(self.lines)

  def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
    """A signal to this group, which `start_new_session` made, and to no other; then it ends."""
    os.killpg(self.process.pid, number)
    self.lines += [line.rstrip() for line in self.process.stdout]
    self.process.wait()

  def steps(self) -> dict[str, float]:
    """Seconds of every step, in order: the run prints `— name` and afterwards `  name: 1.2 s`."""
    named = [line[2:] for line in self.lines if line.startswith('— ')]
    return {
      name: float(re.search(rf'^  {re.escape(name)}: ([\d.]+) s$', self.text(), re.MULTILINE)[1]) for name in named
    }


def finish(home: pathlib.Path) -> Job:
  with Job(home) as job:
    for _ in job.output():
      pass
  assert job.process.returncode == 0, job.text()
  assert 'Traceback' not in job.text(), job.text()
  return job


def killed_in(home: pathlib.Path, step: str, delay: float, number: signal.Signals = signal.SIGKILL) -> str:
  """Starts the job and ends it with a signal `delay` seconds into `step`; returns what it had said."""
  with Job(home) as job:
    for line in job.output():
      if line == f'— {step}':
        time.sleep(delay)
        break
    assert job.process.poll() is None, f'ended before it was killed in {step}:\n{job.text()}'
    job.kill(number)
  print(f'seed {SEED}: {number.name} {delay:.2f} s into {step}, {time.monotonic() - job.start:.1f} s after the start')
  assert job.process.returncode == (PREEMPTED if number == signal.SIGTERM else -number)
  return job.text()


def killed_after(home: pathlib.Path, delay: float) -> str:
  """Starts the job and kills it `delay` seconds later; returns what it had said."""
  with Job(home) as job:
    time.sleep(delay)
    assert job.process.poll() is None, f'ended before it was killed:\n{job.text()}'
  print(f'seed {SEED}: killed {delay:.2f} s after the start')
  assert job.process.returncode == -signal.SIGKILL
  return job.text()


def results(home: pathlib.Path) -> dict[str, object]:
  """All that a run found, without what is only true of the way it went."""
  run = home / 'run'
  found = {path.name: path.read_text() for path in sorted((run / 'predictions').iterdir())}
  for name in ('attributes.jsonl', 'folds/predicted.json', 'model.json', 'config.json'):
    found[name] = (run / name).read_text()
  [info] = (home / 'datasets' / 'skillsim').rglob('dataset_info.json')
  clips = ClipSource(info.parent)
  found['clips'] = str([[*map(_content, sorted(clips[i].to_example().items()))] for i in range(len(clips))])
  return {'report.json': json.loads((run / 'report.json').read_text()), **found}


def _content(field: tuple[str, object]) -> tuple[str, str]:
  """A field of a record, short: in the files its bytes lie in an order that differs from process to process."""
  name, value = field
  return name, hashlib.sha256(value.tobytes()).hexdigest() if isinstance(value, np.ndarray) else repr(value)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """(Its home, the seconds of each step) of the job left alone."""
  home = tmp_path_factory.mktemp('undisturbed')
  steps = finish(home).steps()
  assert len(steps) >= 10, steps
  return home, steps


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_every_step(undisturbed, tmp_path, number, record_property):
  """The main job (`:smoke`), killed or stopped in every one of its steps, ends with the results of one left alone."""
  expected_home, steps = undisturbed
  draw, home, start = random.Random(SEED), tmp_path, time.monotonic()
  heard = [killed_after(home, draw.uniform(0, seconds)) for seconds in (2, 10, 20)]
  heard += [killed_in(home, step, draw.uniform(0, seconds), number) for step, seconds in steps.items()]
  last = finish(home)
  record_property('kills', len(heard))
  record_property('seed', SEED)
  record_property('killed and started again, s', round(time.monotonic() - start))
  for text in heard:
    assert 'Traceback' not in text, text

  expected, found = results(expected_home), results(home)
  assert found.keys() == expected.keys()
  for name in expected:
    assert found[name] == expected[name], name
  assert 'is done already' not in last.text()
  assert 'is done already; its results again:' in finish(home).text()
  assert results(home) == expected
