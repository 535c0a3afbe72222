import json

import pytest

from crosstrainer_jax.discovery import journal
from crosstrainer_jax.discovery.journal import Journal, Unread


def check(line):
  journal.need_texts(line, 'clip_id', 'text')


def test_lines_are_there_at_once_and_in_order_at_the_end(tmp_path):
  output = tmp_path / 'new' / 'a.jsonl'
  lines = Journal(output, check)
  with lines:
    lines.write({'clip_id': 'b', 'text': 'é'})
    assert 'é' in (tmp_path / 'new' / 'a.jsonl.part').read_text()
    assert not output.exists()
    lines.write({'clip_id': 'x', 'text': ''})
    lines.write({'clip_id': 'a', 'text': ''})
  lines.finish(['a', 'b', 'c'])
  assert [json.loads(line)['clip_id'] for line in output.read_text().splitlines()] == ['a', 'b', 'x']
  assert [path.name for path in output.parent.iterdir()] == ['a.jsonl']


def test_both_files_are_read_and_the_later_line_counts(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"clip_id": "a", "text": "1"}\n{"clip_id": "b", "text": 2}\n[]\n{"cl')
  (tmp_path / 'a.jsonl.part').write_text('{"clip_id": "a", "text": "2"}\n')
  lines = Journal(tmp_path / 'a.jsonl', check)
  assert lines.lines == {'a': {'clip_id': 'a', 'text': '2'}}
  assert lines.broken == 3


def test_the_list_of_what_was_not_read(tmp_path):
  output, one = tmp_path / 'a.jsonl', Unread('a', 'sha', 'fake', 'it rambles')
  journal.write_unread(output, [one])
  assert journal.read_unread(output) == {'a': one}
  text = '\n'.join(journal.describe_unread(output, [one] * 7))
  assert text.startswith(f'7 clips have no readable answer, and no line; they are listed in {tmp_path}/a.unread.jsonl:')
  assert (text.count('it rambles'), text[-1]) == (5, '…')
  journal.write_unread(output, [])
  assert journal.read_unread(output) == {}
  assert journal.describe_unread(output, []) == []


def test_a_text_is_needed():
  with pytest.raises(TypeError):
    journal.need_texts({'a': 1}, 'a')
  with pytest.raises(KeyError):
    journal.need_texts({}, 'a')
