"""The main job with its data and its workdir in a bucket: killed while it trains, it goes on, and ends as any other."""

import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import REAL_DATA, ROOT, SMALL
from tests.drills import bucket_server

PLACE = 'gs://bucket/run'


@pytest.fixture
def server(monkeypatch):
  """The server; the libraries of this process's children find it."""
  with bucket_server.serving() as (server, environment):
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    yield server


def start(verb, *arguments):
  command = [sys.executable, '-m', f'crosstrainer_jax.{verb}', *arguments]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(verb, *arguments):
  process = start(verb, *arguments)
  said = process.communicate()[0]
  assert process.returncode == 0, said
  assert 'Traceback' not in said, said
  return said


def files(server, folder=''):
  """Of the run, by their place in `folder`."""
  prefix = f'bucket/run/{folder}'
  return {name.removeprefix(prefix): there.data for name, there in server.objects.items() if name.startswith(prefix)}


@pytest.mark.slow
def test_a_run_in_a_bucket(server, small_run, tmp_path, record_property):
  """The main job in a bucket, killed in stage I, resumes and ends as on a disk; it is evaluated and exported there."""
  settings = [f'--config.{setting}' for setting in (*SMALL, 'training.save_every=1')]
  job = [
    'train',
    '--config=configs/cross_sport.py:smoke',
    *settings,
    f'--workdir={PLACE}',
    '--data_dir=gs://bucket/data',
  ]
  first = start(*job)
  while not any(name.startswith('stage1/checkpoints/3/') for name in files(server)):
    assert first.poll() is None, first.communicate()[0]
    time.sleep(0.01)
  first.send_signal(signal.SIGKILL)
  assert 'Traceback' not in first.communicate()[0]
  begun = time.monotonic()
  assert re.search(r'stage1: resumed at update \d', said := finish(*job)), said
  record_property('resumed, s', round(time.monotonic() - begun))
  record_property('objects', len(server.objects))
  assert 'is done already' in finish(*job)

  on_disk = {path.name: path.read_bytes() for path in (small_run / 'predictions').iterdir()}
  assert on_disk == files(server, 'predictions/')
  assert files(server, 'attributes.jsonl')[''] == (small_run / 'attributes.jsonl').read_bytes()
  assert any('tfevents' in name for name in files(server, 'tensorboard/'))

  assert f'written: {PLACE}/report.md' in finish('eval', f'--workdir={PLACE}')
  assert on_disk == files(server, 'predictions/')
  finish('export', PLACE, '--output', str(tmp_path / 'exported'))
  assert '\n# run\n' in (tmp_path / 'exported' / 'README.md').read_text()
  video = next(REAL_DATA.rglob('*.mp4'), None)
  if video is not None:
    assert '"segments"' in finish('assess', str(video), '--checkpoint', PLACE, '--json')
