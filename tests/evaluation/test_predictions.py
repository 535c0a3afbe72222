"""Predictions and references as JSONL."""

import json

import pytest

from crosstrainer_jax.evaluation.predictions import (
  Prediction,
  Reference,
  align,
  read_predictions,
  read_references,
  write_predictions,
  write_references,
)
from crosstrainer_jax.input.record import Clip


def test_round_trip_keeps_every_field(tmp_path, references):
  predictions = [references[0].answer(['köne, "x"'], 'a\nb', 2, {'köne': 0.25}), references[1].answer()]
  write_predictions(tmp_path / 'new' / 'p.jsonl', predictions)
  write_references(tmp_path / 'r.jsonl', references)
  assert read_predictions(tmp_path / 'new' / 'p.jsonl') == predictions
  assert read_references(tmp_path / 'r.jsonl') == references


def test_no_clips_is_an_empty_file(tmp_path):
  write_predictions(tmp_path / 'p.jsonl', [])
  assert read_predictions(tmp_path / 'p.jsonl') == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, references):
  path = tmp_path / 'p.jsonl'
  write_predictions(path, [references[0].answer(['a'])])
  before = path.read_bytes()
  with pytest.raises(ValueError, match='Out of range float'):
    write_predictions(path, [references[0].answer(['a'], scores={'a': float('nan')})])
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['p.jsonl']


def test_missing_file_says_so(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.jsonl does not exist'):
    read_predictions(tmp_path / 'nowhere.jsonl')


GOOD = {'clip_id': 'a', 'take': 't', 'sport': 's', 'skill': 'k'}


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"clip_id": ', r'line 2: not JSON'),
    ('[]', r'line 2: expected an object with the fields of Prediction'),
    (json.dumps({'clip_id': 'b'}), r"line 2: missing fields \['take', 'sport', 'skill'\]"),
    (json.dumps(GOOD | {'clip_id': 'b', 'lvl': 1}), r"line 2: missing fields \[\], unknown fields \['lvl'\]"),
    (json.dumps(GOOD | {'clip_id': 7}), r"line 2: field 'clip_id' must be str, not 7"),
    (json.dumps(GOOD | {'clip_id': 'b', 'attributes': 'x'}), r"line 2: field 'attributes' must be list\[str\] \| None"),
    (json.dumps(GOOD | {'clip_id': 'b', 'level': True}), r"line 2: field 'level' must be int \| None"),
    (json.dumps(GOOD | {'clip_id': 'b', 'scores': {'x': None}}), r"line 2: field 'scores'"),
    (json.dumps(GOOD | {'clip_id': 'b', 'level': 4}), r'line 2: level 4 is outside 0 … 3'),
    (json.dumps(GOOD), r"line 2: clip 'a' is already in line 1"),
  ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
  path = tmp_path / 'p.jsonl'
  path.write_text(json.dumps(GOOD) + '\n' + line + '\n')
  with pytest.raises(ValueError, match=r'p\.jsonl, ' + message):
    read_predictions(path)


def test_unknown_level_is_minus_one_in_references_only(tmp_path, reference):
  write_references(tmp_path / 'r.jsonl', [reference(0, level=-1)])
  assert read_references(tmp_path / 'r.jsonl')[0].level == -1


def test_align_orders_by_reference(references, perfect):
  assert align(perfect[::-1], references) == perfect


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda p: p[1:], "1 of 6 clips have no prediction, first 'clip0'"),
    (lambda p: [*p, p[0]], '1 clips are predicted twice'),
    (
      lambda p: [*p, Prediction('other', 't', 's', 'k')],
      "1 predictions are of clips that are not evaluated, first 'other'",
    ),
  ],
)
def test_align_refuses_what_does_not_fit(references, perfect, change, message):
  with pytest.raises(ValueError, match=message):
    align(change(perfect), references)


def test_reference_from_clip_keeps_unknown_truth_unknown():
  clip = Clip('a', 'd', 's', 'k', 'p', 't', incorrect=['x'], faults=[], has_faults=False)
  assert Reference.from_clip(clip).faults is None
  clip.has_faults = True
  assert Reference.from_clip(clip).faults == []
  assert Reference.from_clip(clip).attributes == ['x']
