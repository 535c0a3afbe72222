"""Judges' forms: majority, agreement, and what is refused."""

import io
import json
import math

import numpy as np
import pytest

from crosstrainer_jax.evaluation.human import Item, Key, fleiss_kappa, judge, read_answers, read_key

# Table 1 of the article on Fleiss' kappa that everybody computes: 14 raters, 10 subjects, 5 categories, κ = 0.210.
KNOWN = [
  [0, 0, 0, 0, 14],
  [0, 2, 6, 4, 2],
  [0, 0, 3, 5, 6],
  [0, 3, 9, 2, 0],
  [2, 2, 8, 1, 1],
  [7, 7, 0, 0, 0],
  [3, 2, 6, 3, 0],
  [2, 5, 3, 2, 2],
  [6, 5, 2, 1, 0],
  [0, 2, 2, 3, 7],
]


def by_pairs(answers):
  """Fleiss' κ from its meaning: the share of agreeing pairs of raters, against two answers drawn from all of them."""
  items, raters = answers.shape
  pairs = [(a, b) for a in range(raters) for b in range(raters) if a != b]
  observed = np.mean([[answers[i, a] == answers[i, b] for a, b in pairs] for i in range(items)])
  pool = answers.ravel()
  chance = np.mean(pool[:, None] == pool[None])
  return (observed - chance) / (1 - chance)


def test_kappa_of_the_known_table():
  assert fleiss_kappa(KNOWN) == pytest.approx(0.20993, abs=1e-5)


def test_kappa_is_agreement_of_pairs_beyond_chance():
  random = np.random.default_rng(0)
  for categories in (2, 4):
    answers = random.integers(categories, size=(30, 3))
    answers[:15, 1:] = answers[:15, :1]
    counts = np.stack([(answers == c).sum(1) for c in range(categories)], 1)
    assert fleiss_kappa(counts) == pytest.approx(by_pairs(answers), abs=1e-12)


def test_kappa_is_undefined_where_there_is_nothing_to_agree_on():
  assert math.isnan(fleiss_kappa(np.zeros((0, 2))))
  assert math.isnan(fleiss_kappa([[1, 0], [0, 1]]))
  assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
  with pytest.raises(ValueError, match='from 2 to 3'):
    fleiss_kappa([[3, 0], [1, 1]])


@pytest.fixture
def key():
  items = [Item(f'{n:03d}-{letter}', f'clip{n}', f'take{n}', {'A': 'ours', 'B': 'theirs'}[letter])
           for n in range(1, 5) for letter in 'AB']  # fmt: skip
  return Key('abc', 'feedback', 'Is it right?', 0, items)


def form(path, rater, answers, sheet='abc', comma=',', start=''):
  lines = [f'{item}{comma}{rater}{comma}{answer}{comma}' for item, answer in answers.items()]
  path.write_text('\r\n'.join([start + comma.join(['sheet', 'item', 'rater', 'answer', 'comment']),
                               *(f'{sheet}{comma}{line}' for line in lines)]), encoding='utf-8')  # fmt: skip
  return path


def test_majority_ties_and_silence(key, tmp_path):
  names = [item.item for item in key.items]  # ours, theirs, ours, theirs …
  forms = [
    form(tmp_path / '1.csv', 'ann', dict(zip(names, ['yes', 'no', 'yes', 'no', 'yes', 'no', '', ''], strict=True))),
    # as spreadsheets write them
    form(tmp_path / '2.csv', 'bob', dict(zip(names, ['YES', 'no', 'no', 'yes', 'Yes', 'no', '', ''], strict=True)),
         comma=';', start='\ufeff'),
    form(tmp_path / '3.csv', 'cid', dict(zip(names[:4], ['no', 'no', 'yes', 'yes'], strict=True))),
  ]  # fmt: skip
  raters, answers = read_answers(forms, key)
  assert raters == ['ann', 'bob', 'cid']
  judged = judge(key, raters, answers)
  # ours: clips 1 and 2 by two of three, 3 by both; theirs: clip 2 by two of three; clip 4 was not judged
  assert judged.systems['ours'].value == 100
  assert judged.systems['theirs'].value == pytest.approx(100 / 3)
  assert (judged.systems['ours'].n_clips, judged.unanswered, judged.ties, judged.rated) == (3, 2, 0, 4)
  assert judged.kappa == pytest.approx(by_pairs(answers[:4]))
  assert judged.by_rater['theirs'] == {'ann': 0.0, 'bob': pytest.approx(100 / 3), 'cid': 50.0}
  assert 'Is it right?' in judged.to_markdown()
  assert json.loads(judged.to_json())['kappa'] == pytest.approx(judged.kappa)
  out = io.StringIO()
  judged.print(out)
  assert "Fleiss' κ" in out.getvalue()


def test_a_tie_counts_as_no(key, tmp_path):
  forms = [form(tmp_path / f'{r}.csv', r, {'001-A': answer}) for r, answer in (('ann', 'yes'), ('bob', 'no'))]
  judged = judge(key, *read_answers(forms, key))
  assert (judged.systems['ours'].value, judged.ties) == (0, 1)
  assert math.isnan(judged.systems['theirs'].value)


@pytest.mark.parametrize(
  ('rater', 'answers', 'changes', 'message'),
  [
    ('ann', {'009-A': 'yes'}, {}, r"line 2: the sheet has no item '009-A'"),
    ('ann', {'001-A': 'maybe'}, {}, 'must be yes, no or empty'),
    ('', {'001-A': 'yes'}, {}, 'the rater has no name'),
    ('ann', {'001-A': 'yes'}, {'sheet': 'xyz'}, "the sheet 'xyz', the key is of 'abc'"),
    ('ann', {'001-A': ''}, {}, 'no answer in'),
    ('ann', {'001-A': 'yes'}, {'comma': '|'}, 'the columns sheet, item, rater, answer are missing'),
  ],
)
def test_a_wrong_form_is_a_clear_error(key, tmp_path, rater, answers, changes, message):
  with pytest.raises(ValueError, match=message):
    read_answers([form(tmp_path / 'form.csv', rater, answers, **changes)], key)


def test_nobody_answers_an_item_twice(key, tmp_path):
  forms = [form(tmp_path / f'{n}.csv', 'ann', {'001-A': 'yes'}) for n in range(2)]
  with pytest.raises(ValueError, match="1.csv, line 2: 'ann' answers '001-A' a second time"):
    read_answers(forms, key)


def test_the_key_is_read_back(key, tmp_path):
  path = tmp_path / 'key.json'
  path.write_text(key.to_json())
  assert read_key(path) == key
  path.write_text('{"sheet": "abc"}')
  with pytest.raises(ValueError, match='is not the key of a sheet'):
    read_key(path)
  with pytest.raises(FileNotFoundError, match='key.json'):
    read_key(tmp_path / 'other.json')
