"""Ratings by a language model: what is read, what is not, and what that costs."""

import pytest

from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.judge import parse, rate


@pytest.mark.parametrize(
  ('answer', 'expected'),
  [
    ("{'score': 4}", 4),
    ('{"score": 4}', 4),
    ('{"score": "4"}', 4),
    ("Sure! Here it is:\n```python\n{'score': 4}\n```\nThe coach agrees.", 4),
    ("{'score': int(4)}", 4),
    ('{"score": 4, "why": "knees, 3 of 5"}', 4),
    ("{'Score': 4.5}", 4.5),
    ('Score: 4', 4),
    ('the score is 4.', 4),
    ('4', 4),
    (' 4/5\n', 4),
    ("<think>{'score': 1} would be too harsh</think>{'score': 4}", 4),
    ("{'score': 4} {'score': 4}", 4),
    ("{'score': 4} or {'score': 5}", None),
    ("{'score': 0}", None),
    ("{'score': 7}", None),
    ("{'score': -3}", None),
    ("{'score': 45}", None),
    ("{'score': N}", None),
    ("{'scores': 4}", None),
    ('scored 4', None),
    ('I would give 3 of 5', None),
    ("<think>{'score': 1} and then", None),
    ('', None),
  ],
)
def test_parse(answer, expected):
  assert parse(answer) == expected


def test_what_cannot_be_read_is_rated_lowest_and_counted():
  asked = []

  def complete(prompt):
    asked.append(prompt)
    if 'broken' in prompt:
      raise TimeoutError('no answer in 60 s')
    return "{'score': 5}" if 'knees' in prompt.split('Coach:')[1] else 'as an AI …'

  pairs = [
    ('Bend your knees', 'knees, please'), ('Bend your knees', 'knees, please'), ('Nice', 'elbow {odd} braces'),
    ('Nice', 'broken'), ('Nice', ''),
  ]  # fmt: skip
  ratings = rate(pairs, complete)
  assert ratings.scores == [5, 5, None, None, 1]
  assert len(asked) == 3  # equal pairs once, and none for silence
  assert (ratings.n_unread, ratings.n_failed) == (1, 1)
  statistic = ratings.statistic()
  interval = bootstrap(statistic, list('abcde'), 50)
  assert interval.value == pytest.approx((5 + 5 + 1 + 1 + 1) / 5)
  assert "1 of 5 ratings could not be read, such as 'as an AI …'" in interval.note
  assert "1 of 5 calls failed, such as 'TimeoutError: no answer in 60 s'" in interval.note


def test_ratings_by_session():
  ratings = rate([('a', 'x'), ('b', 'y'), ('c', 'z')], lambda prompt: "{'score': 3}" if 'x' in prompt[-200:] else '2')
  statistic = ratings.statistic([2, 2, 0], 3)
  assert statistic.counted.tolist() == [True, False, True]
  assert statistic.sums[:, 1].tolist() == [1, 0, 2]
  assert ratings.note() == ''


def test_an_interrupt_is_no_rating():
  def stop(prompt):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    rate([('a', 'b')], stop)
