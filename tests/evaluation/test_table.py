"""Footnotes, Markdown escapes, and blocks."""

import pytest

from crosstrainer_jax.evaluation.table import Footnotes, Table, blocks, markdown, read_page, spread


def test_the_same_note_keeps_its_number():
  footnotes = Footnotes()
  assert [footnotes.mark(note) for note in ('b', '', 'a', 'b')] == ['¹', '', '²', '¹']
  for i in range(9):
    footnotes.mark(f'more {i}')
  assert footnotes.lines()[0] == '¹ b'
  assert footnotes.lines()[-1] == '¹¹ more 8'


def test_markdown_escapes_bars():
  assert '| a\\|b | 1 |' in markdown(Table('t', ['x'], [('a|b', ['1'])]))


def test_blocks_hold_every_column_once_and_at_least_one():
  table = Table('t', ['a', 'bbbbbb', 'c'], [('row', ['1' * 10, '2', '3' * 50])])
  assert blocks(table, 120) == [[0, 1, 2]]
  assert blocks(table, 30) == [[0, 1], [2]]
  assert blocks(table, 1) == [[0], [1], [2]]
  assert blocks(Table('t', [], []), 120) == []


def test_runs_are_summed_up():
  assert spread([1.0, 2.0, 6.0]) == '3.0 (1.0–6.0)'
  assert spread([1.0, None]) == spread([]) == '–'


def test_a_page_of_another_verb_is_told(tmp_path):
  file = tmp_path / 'r.json'
  with pytest.raises(FileNotFoundError, match='crosstrainer_jax.retrieve writes one'):
    read_page(file, ('rows',), 'retrieve')
  for content in ('{"rows": 1}', '{', '[]'):
    file.write_text(content)
    with pytest.raises(ValueError, match='no report of retrieve'):
      read_page(file, ('rows', 'facts'), 'retrieve')
