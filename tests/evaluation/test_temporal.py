"""Matching in time by hand and against a plain restatement; the temporal F-score; texts of matched pairs."""

import math

import numpy as np
import pytest
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer

from crosstrainer_jax.evaluation.bert_score import BertScore
from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from crosstrainer_jax.evaluation.temporal import (
  Comment,
  Session,
  match,
  matched_texts,
  notes,
  temporal_f_score,
  temporal_statistics,
  words,
)
from tests.models import tiny_text_encoders


def comments(*times, text='x'):
  return [Comment(time, text) for time in times]


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


@pytest.mark.parametrize(
  ('references', 'predictions', 'expected'),
  [
    ([1, 5], [1.2, 4.8], [(0, 0), (1, 1)]),
    ([1], [2.5], []),  # 1.5 s away is too far
    ([1], [2.49], [(0, 0)]),
    ([1, 2], [1.5], [(0, 0)]),  # one to one
    ([1, 1.2], [1.1, 2.4], [(0, 0)]),  # no second choice, though 2.4 is near enough
    ([1, 1.4], [0.2, 2.2], [(0, 0), (1, 1)]),
    ([2], [1, 3], [(0, 0)]),  # the first of two that are equally near
    ([], [1], []),
    ([1], [], []),
  ],
)
def test_matching_by_hand(references, predictions, expected):
  assert match(comments(*references), comments(*predictions)) == expected


def test_an_empty_prediction_takes_nothing():
  assert match(comments(1), comments(1.1, text='')) == []


def plain(references, predictions):
  """The rule once more, in plain loops over all candidates."""
  pairs, last = [], -1
  for i, reference in enumerate(references):
    distances = [abs(p.seconds - reference.seconds) for p in predictions]
    if not distances:
      continue
    j = distances.index(min(distances))
    if distances[j] < 1.5 and j > last and predictions[j].text != '':
      pairs.append((i, j))
      last = j
  return pairs


def test_matching_and_f_score_on_random_sessions():
  rng = np.random.default_rng(0)
  sessions, totals = [], np.zeros(4)
  for _ in range(300):
    sides = [
      [Comment(float(t), str(rng.choice(['', 'a', 'b']))) for t in np.sort(rng.uniform(0, 15, rng.integers(0, 9)))]
      for _ in range(2)
    ]
    expected, back = plain(*sides), plain(*sides[::-1])
    assert match(*sides) == expected
    totals += len(expected), len(sides[0]), len(back), len(sides[1])
    sessions.append(Session(f't{len(sessions) // 3}', *sides))
  recall, precision = totals[0] / totals[1], totals[2] / totals[3]
  statistic = temporal_statistics(sessions)['T-F']
  assert value(statistic) == pytest.approx(100 * 2 * precision * recall / (precision + recall))
  interval = bootstrap(statistic, [session.take for session in sessions], 200)
  assert interval.low < interval.value < interval.high
  # the order in which a row lists its comments does not matter
  shuffled = [Session(s.take, s.references[::-1], s.predictions[::-1]) for s in sessions]
  assert value(temporal_statistics(shuffled)['T-F']) == pytest.approx(value(statistic))


def test_silence_costs_recall_and_failure_is_silence():
  said = [Session('t0', comments(1, 5), comments(1, 5))]
  for nothing in ((), None):
    statistics = temporal_statistics([*said, Session('t1', comments(1, 5), nothing)])
    assert value(statistics['T-F']) == pytest.approx(100 * 2 * 0.5 / 1.5)
    assert value(statistics['ROUGE-L matched']) == 100  # of what was matched alone
    note = statistics['T-F'].note
    assert ('1 of 2 sessions could not be answered' in note) == (nothing is None)
  alone = temporal_statistics([Session('t1', comments(1, 5), ())])
  assert value(alone['T-F']) == 0
  assert math.isnan(value(alone['ROUGE-L matched']))
  assert math.isnan(float(temporal_f_score(np.zeros(4))))  # nothing was to be said


def test_texts_of_matched_pairs(tmp_path):
  sessions = [
    Session(
      't0',
      [Comment(1, 'Bend your knees.'), Comment(9, 'Nice!')],
      [Comment(1.2, "Don't bend knees."), Comment(4, 'So.')],
    ),
    Session('t1', [Comment(2, 'Elbow in.')], [Comment(2.4, 'Keep the elbow in.')]),
  ]
  assert [matched_texts(session) for session in sessions] == [
    [('Bend your knees.', "Don't bend knees.")],
    [('Elbow in.', 'Keep the elbow in.')],
  ]
  bert = BertScore.load(tiny_text_encoders.write(tmp_path / 'bert', 'bert'))
  statistics = temporal_statistics(sessions, bert)
  pairs = [pair for session in sessions for pair in matched_texts(session)]
  rouge = RougeScorer(['rougeL'])
  expected = {
    'METEOR-es matched': [single_meteor_score(words(a), words(b), wordnet=NoSynonyms()) for a, b in pairs],
    'ROUGE-L matched': [rouge.score(a, b)['rougeL'].fmeasure for a, b in pairs],
    'BERT matched': bert([b for _, b in pairs], [a for a, _ in pairs])[:, 2],
  }
  assert {name: value(statistics[name]) for name in expected} == pytest.approx(
    {name: 100 * np.mean(values) for name, values in expected.items()}
  )
  assert notes(sessions) == (
    'Of 3 comments in 2 sessions 2 were matched within 1.5 s and 1 missed; 1 of 3 predictions are extra'
  )


def test_tokens_are_those_of_word_tokenize():
  assert words("Don't stop. Keep going, 3.5 reps!") == (
    *('Do', "n't", 'stop', '.', 'Keep', 'going', ',', '3.5', 'reps', '!'),
  )
