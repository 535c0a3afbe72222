"""Feedback with times of its own: read, matched with the test clips, and what is wrong with a file."""

import json
import shutil

import pytest

from crosstrainer_jax import provenance, timed
from crosstrainer_jax.evaluation.predictions import read_references
from crosstrainer_jax.input.source import ClipSource


@pytest.fixture
def workdir(small_run, tmp_path):
  (tmp_path / 'run').mkdir()
  shutil.copytree(small_run / 'predictions', tmp_path / 'run' / 'predictions')
  return tmp_path / 'run'


def evaluate(small_run, small_data, workdir, lines):
  file = workdir / 'other.jsonl'
  file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return timed.evaluate(workdir, small_data, provenance.recorded_config(small_run), {'other': str(file)})


def test_an_echo_of_the_expert_matches_and_silence_does_not(small_run, small_data, workdir):
  references = read_references(workdir / 'predictions' / 'references.jsonl')
  times = {clip.clip_id: clip.commentary_time for clip in ClipSource(small_data).infos()}
  echo = [{'take': r.take, 'seconds': times[r.clip_id], 'feedback': r.commentary} for r in references]
  found = evaluate(small_run, small_data, workdir, echo)
  assert set(found.rows) == {'CrossTrainer', 'nearest neighbour', 'random', 'other'}
  assert found.rows['other']['T-F'].value == 100
  assert found.rows['other']['ROUGE-L matched'].value == pytest.approx(100)
  assert found.rows['random']['T-F'].note == timed.GIVEN_TIMES
  assert found.rows['random']['ROUGE-L matched'].value < 100
  found.write(workdir)
  assert timed.GIVEN_TIMES in (workdir / 'timed.md').read_text()
  assert json.loads((workdir / 'timed.json').read_text())['rows']['other']['T-F']['value'] == 100
  late = evaluate(small_run, small_data, workdir, [echo[0] | {'seconds': 1e4}])
  assert late.rows['other']['T-F'].value == 0
  assert any('0 were matched within 1.5 s' in note for note in late.notes)


def test_broken_lines_are_named(small_run, small_data, workdir):
  for line, message in (
    ({'take': 'a', 'seconds': 'soon', 'feedback': ''}, 'line 1: expected'),
    ({'take': 'a', 'seconds': 1.0}, 'line 1: expected'),
    ({'take': 'nobody', 'seconds': 1.0, 'feedback': 'x'}, "'nobody' is no take of the test clips"),
  ):
    with pytest.raises(ValueError, match=message):
      evaluate(small_run, small_data, workdir, [line])
  with pytest.raises(FileNotFoundError):
    timed.read_timed(workdir / 'none.jsonl', ['a'])
