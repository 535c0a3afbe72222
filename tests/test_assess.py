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
      print('said on the way')
      return result

  monkeypatch.setattr(coach, 'load', lambda *_: Stub())
  assess.main(['a.mp4', '--checkpoint', str(tmp_path), '--json'])
  assert json.loads(capsys.readouterr().out)['segments'][0]['feedback'] == 'Stay tall.'
  assess.main(['a.mp4', '--checkpoint', str(tmp_path)])
  text = capsys.readouterr().out
  assert 'balance (80%)' in text
  assert 'a warning' in text


def test_an_interruption_is_one_line(monkeypatch, capsys, tmp_path):
  class Stub:
    def assess(self, *arguments):
      arguments[-1](1, 3)
      raise KeyboardInterrupt

  monkeypatch.setattr(coach, 'load', lambda *_: Stub())
  with pytest.raises(SystemExit) as stop:
    assess.main(['a.mp4', '--checkpoint', str(tmp_path)])
  assert stop.value.code == 130
  shown = capsys.readouterr()
  assert not shown.out
  assert shown.err == '\ninterrupted; nothing was assessed\n'
