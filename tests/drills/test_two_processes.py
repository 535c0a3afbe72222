"""The whole main job in two processes, on one machine: data, two stages, evaluation, and everything written once."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from tests.conftest import SMALL

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def _start(home: pathlib.Path, **told: str) -> subprocess.Popen:
  environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
  command = [sys.executable, '-m', 'crosstrainer_jax.train', '--config=configs/cross_sport.py:smoke']
  command += [*(f'--config.{setting}' for setting in SMALL), '--config.eval.rows=()']
  command += [f'--workdir={home / "run"}', f'--data_dir={home / "datasets"}']
  environment |= {'JAX_PLATFORMS': 'cpu', **told}
  with (home / f'{told.get("JAX_PROCESS_ID", "alone")}.log').open('w') as log:
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path, record_property):
  """The same files, rows and nearest neighbours; scores of what trains, which rounding may change, are not compared."""
  alone, together = tmp_path / 'alone', tmp_path / 'together'
  alone.mkdir()
  together.mkdir()
  one = _start(alone)
  assert one.wait(600) == 0, (alone / 'alone.log').read_text()[-3000:]
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  begin = time.monotonic()
  told = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2'}
  two = [_start(together, **told, JAX_PROCESS_ID=str(number)) for number in (0, 1)]
  ends = [process.wait(600) for process in two]
  said = [(together / f'{number}.log').read_text() for number in (0, 1)]
  assert ends == [0, 0], '\n'.join(text[-3000:] for text in said)
  record_property('seconds in two processes', round(time.monotonic() - begin))
  assert 'Done in' in said[0]
  assert 'Done in' not in said[1]
  reports = [json.loads((home / 'run' / 'report.json').read_text()) for home in (alone, together)]
  for row in ('nearest neighbour', 'CrossTrainer'):
    assert reports[0]['rows'][row].keys() == reports[1]['rows'][row].keys()
  assert reports[0]['rows']['nearest neighbour'] == reports[1]['rows']['nearest neighbour']
  names = [{str(p.relative_to(home / 'run')) for p in (home / 'run').rglob('*.json*')} for home in (alone, together)]
  assert names[0] == names[1]
