"""Files of attributes side by side."""

import collections
import io
import itertools
import json
import math
import re

import numpy as np
import pytest

from crosstrainer_jax.evaluation import attribute_files
from crosstrainer_jax.evaluation.attributes import EXACT, LEXICAL
from tests.models.test_text_encoder import folder  # noqa: F401


def write(path, rows, backend='fake', **changes):
  """Rows of (clip, take, sport, incorrect)."""
  lines = [
    {'clip_id': clip, 'take': take, 'sport': sport, 'text_sha': 's', 'backend': backend, 'correct': ['timing'],
     'incorrect': incorrect} | changes
    for clip, take, sport, incorrect in rows
  ]  # fmt: skip
  path.parent.mkdir(exist_ok=True)
  path.write_text('\n'.join(json.dumps(line) for line in lines))
  return path


ROWS = [
  ('a', 't1', 'soccer', ['balance', 'knee bend']),
  ('b', 't1', 'soccer', ['balance']),
  ('c', 't2', 'fitness', ['balance', 'Speed']),
  ('d', 't3', 'fitness', []),
]
OTHER = [
  ('a', 't1', 'soccer', ['knee bend', 'balance']),
  ('b', 't1', 'soccer', ['timing', 'balance']),
  ('c', 't2', 'fitness', []),
  ('d', 't3', 'fitness', []),
]


@pytest.fixture
def comparison(tmp_path):
  paths = [write(tmp_path / 'lexicon.jsonl', ROWS), write(tmp_path / 'model.jsonl', OTHER, 'openai:m')]
  return attribute_files.compare(paths, EXACT)


def test_agreement_by_hand(comparison):
  (one,) = comparison.agreements
  # a: two pairs of 1; b: one pair of 1, one phrase left over; c: two left over; d: nothing to say
  assert one.pairs.value == pytest.approx(100 * (1 + 1) / 2)
  assert one.all.value == pytest.approx(100 * (1 + 0.5 + 0) / 3)
  assert (one.pairs.n_clips, one.all.n_clips, one.clips, one.both_empty, one.one_empty) == (2, 3, 4, 1, 1)
  assert (one.pairs.n_takes, one.all.n_takes) == (1, 2)
  # one take has no interval
  assert math.isnan(one.pairs.low)
  assert one.all.low == 0


def test_the_floor_is_what_random_clips_have_in_common(tmp_path):
  """Every clip has a phrase of its own, and one that all have: matched, one half of the pairs is alike."""
  rows = [(f'c{i}', f't{i}', 'soccer', ['balance', f'part {i}']) for i in range(200)]
  paths = [write(tmp_path / name / 'a.jsonl', rows) for name in ('one', 'two')]
  (one,) = attribute_files.compare(paths, EXACT).agreements
  assert one.pairs.value == 100
  assert one.pairs_floor.value == one.all_floor.value == pytest.approx(50, abs=1)


def test_a_file_agrees_with_itself(tmp_path):
  paths = [write(tmp_path / name / 'a.jsonl', ROWS) for name in ('one', 'two')]
  comparison = attribute_files.compare(paths, LEXICAL)
  assert [file.name for file in comparison.files] == ['one/a', 'two/a']
  assert comparison.agreements[0].pairs.value == comparison.agreements[0].all.value == 100


def test_pairs_are_matched_so_that_the_sum_is_largest():
  """Against every possible matching, on random similarities."""
  random = np.random.default_rng(0)
  for _ in range(20):
    matrix = random.random(tuple(random.integers(1, 5, 2)))
    values = dict(np.ndenumerate(matrix))
    first, second = (list(range(size)) for size in matrix.shape)
    best = max(
      sum(matrix[r, c] for r, c in zip(rows, columns, strict=True))
      for count in [min(matrix.shape)]
      for rows in itertools.combinations(first, count)
      for columns in itertools.permutations(second, count)
    )
    found = attribute_files.matched_similarities(first, second, values)
    assert len(found) == min(matrix.shape)
    assert sum(found) == pytest.approx(best)


def test_overlap_of_sports():
  soccer, fitness = collections.Counter({'balance': 3, 'power': 1}), collections.Counter({'balance': 1, 'speed': 1})
  assert attribute_files.overlap(soccer, fitness) == (1 / 3, 0.5)
  assert attribute_files.overlap(soccer, soccer) == (1, 1)
  assert all(math.isnan(value) for value in attribute_files.overlap(soccer, collections.Counter()))


def test_the_page_says_it_all(comparison, tmp_path):
  pytest.importorskip('matplotlib')
  page, picture = comparison.write(tmp_path / 'report')
  text = page.read_text()
  assert '| lexicon | 4 | 3 | 75.0 % | 1.25 | 1.00 | 3 | 2 |' in text
  assert '| soccer | balance (2) | knee bend (1) |' in text
  assert re.search(
    r'\| lexicon – model \| 100\.0 \| \S+ \| 2 \| 50\.0 \[0\.0, 75\.0\] \| \S+ \| 3 \| 2 \| 1 \| 1 \|', text
  )
  assert '- model: openai:m' in text
  assert 'exact string' in text
  # balance is 2/3 of soccer's phrases and 1/2 of fitness's
  assert '| fitness | 1.00 | 0.50 |\n| soccer | 0.50 | 1.00 |' in text
  assert picture.read_bytes().startswith(b'\x89PNG')
  stream = io.StringIO()
  comparison.print(stream)
  assert 'Agreement of incorrect attributes' in stream.getvalue()


def test_one_file_alone(tmp_path):
  pytest.importorskip('matplotlib')
  alone = attribute_files.compare([write(tmp_path / 'a.jsonl', ROWS[:2])], EXACT)
  assert alone.agreements == []
  text = alone.to_markdown()
  assert 'between sports' not in text
  alone.write(tmp_path / 'report')


def test_similarity_by_a_bert(folder, tmp_path):  # noqa: F811
  similarity = attribute_files.find_similarity(str(folder('bert')))
  assert 'BERT-score' in similarity.meaning
  paths = [write(tmp_path / name / 'a.jsonl', ROWS) for name in ('one', 'two')]
  itself = attribute_files.compare(paths, similarity)
  assert itself.agreements[0].pairs.value == pytest.approx(100)
  # without the clip on which one file names nothing
  other = attribute_files.compare([paths[0], write(tmp_path / 'b.jsonl', OTHER)], similarity)
  (one,) = other.agreements
  assert one.pairs.value == pytest.approx(100)
  assert one.all.value == pytest.approx(50)
  assert attribute_files.find_similarity('exact') is EXACT
  with pytest.raises(FileNotFoundError, match='exact, lexical, or the folder'):
    attribute_files.find_similarity('bleu')


def test_files_that_do_not_belong_together(tmp_path):
  first = write(tmp_path / 'a.jsonl', ROWS)
  with pytest.raises(ValueError, match='no clip in common'):
    attribute_files.compare([first, write(tmp_path / 'b.jsonl', [('x', 't', 's', [])])], EXACT)
  with pytest.raises(ValueError, match='other commentary on 4 clips'):
    attribute_files.compare([first, write(tmp_path / 'c.jsonl', ROWS, text_sha='other')], EXACT)
  with pytest.raises(ValueError, match='run discover again'):
    attribute_files.compare([write(tmp_path / 'd.jsonl', ROWS, take=None)], EXACT)
  with pytest.raises(ValueError, match='given twice'):
    attribute_files.compare([first, first], EXACT)
  (tmp_path / 'e.jsonl').write_text('')
  with pytest.raises(ValueError, match='no clip has a line'):
    attribute_files.compare([tmp_path / 'e.jsonl'], EXACT)
