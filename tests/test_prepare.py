"""The verb `prepare`."""

import json
import subprocess
import sys
import types

import av
import numpy as np
import pytest

from crosstrainer_jax import prepare as verb


def write_video(path, frames=30, fps=10):
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=fps)
    stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
    for i in range(frames):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * i, np.uint8), 'rgb24')))
    container.mux(stream.encode(None))


def row(videos='a.mp4'):
  return {'videos': videos, 'sport': 'soccer', 'skill': 'dribbling', 'participant': 'ann'}


def write_manifest(folder, *rows):
  path = folder / 'manifest.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  return path


def run(tmp_path, *options):
  verb.main([str(tmp_path / 'manifest.jsonl'), '--data_dir', str(tmp_path / 'data'), '--name', 'mine', *options])


def test_dry_run_and_estimate_write_nothing(tmp_path, capsys):
  write_video(tmp_path / 'a.mp4')
  write_manifest(tmp_path, row(), row('gone.mp4'))
  options = ['--mu1', '0.5', '--mu2', '0.5', '--size', '16']
  run(tmp_path, '--dry-run', *options)
  out = capsys.readouterr().out
  assert '3 clips (0 with commentary) of 1 takes by 1 participants' in out
  assert '1 × missing' in out
  run(tmp_path, '--estimate', *options)
  out = capsys.readouterr().out
  assert '3 clips: about' in out
  assert 'MB more during the import' in out
  assert not (tmp_path / 'data').exists()
  run(tmp_path, *options)
  assert (tmp_path / 'data/mine/1.0.0/dataset_info.json').exists()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--mu1', '-3'], 'mu1'),
    (['--root', '/nowhere'], '/nowhere'),
    (['--name', '../x'], 'letters'),
    (['--size', '2'], '8'),
  ],
)
def test_the_verb_ends_with_a_message(tmp_path, options, message):
  write_manifest(tmp_path, row())
  with pytest.raises(SystemExit, match=message) as caught:
    run(tmp_path, *options)
  assert str(caught.value).startswith('error: ')


def test_the_verb_needs_a_name(tmp_path):
  with pytest.raises(SystemExit, match='--name'):
    verb.main([str(write_manifest(tmp_path, row()))])


def test_the_verb_off_a_terminal_prints_plain_lines(tmp_path):
  write_video(tmp_path / 'a.mp4')
  command = [sys.executable, '-W', 'error', '-m', 'crosstrainer_jax.prepare', write_manifest(tmp_path, row())]
  command += ['--name', 'mine', '--data_dir', tmp_path / 'data', '--mu1', '1', '--mu2', '1']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert '\r' not in done.stdout + done.stderr
  assert 'nothing was skipped' in done.stdout
  assert '2 clips' in done.stdout.splitlines()[-1]


def test_skillsim_is_prepared_by_its_builder(monkeypatch):
  asked = []
  builder = types.SimpleNamespace(
    prepare=lambda *given: asked.append(('prepare', *given)), estimate=lambda *given: asked.append(('estimate', *given))
  )
  package = types.ModuleType('crosstrainer_jax.datasets.skillsim')
  package.builder = builder
  monkeypatch.setitem(sys.modules, 'crosstrainer_jax.datasets.skillsim', package)
  verb.main(['skillsim', '--data_dir', 'somewhere'])
  verb.main(['skillsim', '--data_dir', 'somewhere', '--workers', '3', '--estimate'])
  verb.main(['skillsim', '--data_dir', 'somewhere', '--dry-run'])
  assert asked == [
    ('prepare', 'somewhere', None), ('estimate', 'somewhere', 3), ('estimate', 'somewhere', None)
  ]  # fmt: skip
  with pytest.raises(SystemExit, match='--name, --mu1: for own videos'):
    verb.main(['skillsim', '--name', 'mine', '--mu1', '1'])
  assert len(asked) == 3


def test_help_names_every_option(capsys):
  with pytest.raises(SystemExit) as caught:
    verb.main(['--help'])
  assert caught.value.code == 0
  out = capsys.readouterr().out
  for option in (
    'skillsim',
    'egoexo4d',
    '--name',
    '--mu1',
    '--fit',
    '--estimate',
    '--dry-run',
    '--overwrite',
    'docs/own_videos.md',
  ):
    assert option in out
