"""The assess verb."""

import json

import pytest

from crosstrainer_jax import assess
from crosstrainer_jax.inference import coach


def test_help_needs_no_model(capsys):
  with pytest.raises(SystemExit) as stop:
    assess.main(['--help'])
  assert stop.value.code == 0
  assert '--sport' in capsys.readouterr().out


def test_errors_are_one_line(small_run, tmp_path):
  with pytest.raises(SystemExit, match='error: .*missing.mp4'):
    assess.main([str(tmp_path / 'missing.mp4'), '--checkpoint', str(small_run)])
  with pytest.raises(SystemExit, match='error: .*config.json'):
    assess.main(['x.mp4', '--checkpoint', str(tmp_path)])


def test_text_or_json(monkeypatch, capsys, tmp_path):
  segment = coach.Segment(0, 4, {'balance': 0.8}, {}, 'Stay tall.', ('novice', 0.6))
  result = coach.Assessment(['a.mp4'], 'soccer', [segment], ['a warning'], {'decode': 0.1})

  class Stub:
    def assess(self, *arguments):
      return result

  monkeypatch.setattr(coach, 'load', lambda workdir: Stub())
  assess.main(['a.mp4', '--checkpoint', str(tmp_path), '--json'])
  assert json.loads(capsys.readouterr().out)['segments'][0]['feedback'] == 'Stay tall.'
  assess.main(['a.mp4', '--checkpoint', str(tmp_path)])
  text = capsys.readouterr().out
  assert 'balance (80%)' in text
  assert 'a warning' in text
