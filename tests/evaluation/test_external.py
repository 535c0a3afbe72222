"""Answers of other systems: completed, counted where they lack, refused where they are not of this table."""

import dataclasses
import json

import pytest

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation.external import parse, read_external

REFERENCES = [
  Reference(f'clip{i}', f'take{i}', 'soccer', 'kick', 'p', ['balance'], ['balance'], 'Mind your balance.', 1)
  for i in range(3)
]


def write(path, *lines):
  path.write_text(''.join((line if isinstance(line, str) else json.dumps(line)) + '\n' for line in lines))
  return path


def test_answers_are_completed_and_what_lacks_counts_as_wrong(tmp_path):
  path = write(
    tmp_path / 'answers.jsonl', {'clip_id': 'clip2', 'attributes': ['balance'], 'level': 1}, '',
    {'clip_id': 'clip0', 'feedback': 'Well done.', 'take': 'take0'},
  )  # fmt: skip
  row = read_external('other', path, REFERENCES)
  assert [p.clip_id for p in row.predictions] == ['clip0', 'clip1', 'clip2']
  assert row.predictions[0] == REFERENCES[0].answer(feedback='Well done.')
  assert row.predictions[1] == REFERENCES[1].answer()
  assert row.predictions[2] == REFERENCES[2].answer(['balance'], level=1)
  assert '1 of 3 clips have no answer there and count as wrong' in row.note
  assert 'answers.jsonl (sha256 ' in row.note


def test_our_own_predictions_can_be_read_as_another_system(tmp_path):
  path = write(tmp_path / 'ours.jsonl', *(dataclasses.asdict(r.answer(['balance'], 'x', 1)) for r in REFERENCES))
  row = read_external('again', path, REFERENCES)
  assert row.predictions == [r.answer(['balance'], 'x', 1) for r in REFERENCES]
  assert 'count as wrong' not in row.note


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{', r'line 1: not JSON'),
    ([], 'line 1: expected an object with the field clip_id'),
    ({'clip_id': 'stranger'}, r"'stranger' is not among the 3 that are evaluated; .*references\.jsonl"),
    ({'clip_id': 'clip0', 'sport': 'golf'}, r"line 1: sport of 'clip0' is 'soccer', not 'golf'"),
    ({'clip_id': 'clip0', 'attributes': 'balance'}, r"line 1: field 'attributes' must be list\[str\] \| None"),
    ({'clip_id': 'clip0', 'level': 4}, 'level 4 is outside'),
    ({'clip_id': 'clip0', 'comment': 'x'}, r"unknown fields \['comment'\]"),
    ({'clip_id': 'clip0'}, 'no line says anything of a clip'),
  ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path, line, message):
  with pytest.raises(ValueError, match=message):
    read_external('other', write(tmp_path / 'answers.jsonl', line), REFERENCES)


def test_a_clip_twice_and_no_file_are_errors(tmp_path):
  line = {'clip_id': 'clip0', 'feedback': 'x'}
  with pytest.raises(ValueError, match="line 2: the clip 'clip0' comes a second time"):
    read_external('other', write(tmp_path / 'answers.jsonl', line, line), REFERENCES)
  with pytest.raises(FileNotFoundError, match='there is no file'):
    read_external('other', tmp_path / 'nothing.jsonl', REFERENCES)


def test_name_and_file():
  assert parse('gpt (two shots)=a=b.jsonl') == ('gpt (two shots)', 'a=b.jsonl')
  for wrong, message in (('answers.jsonl', 'write NAME=FILE'), ('=x', 'write NAME'), ('a/b=x', 'names a file too')):
    with pytest.raises(ValueError, match=message):
      parse(wrong)
