import pytest

from crosstrainer_jax.curation import truth
from crosstrainer_jax.curation.videos import Segment, Verdict, Video

PIECES = [
  {'number': 0, 'start': 0.0, 'end': 3.0, 'actionable': True, 'demonstrated': True, 'execution': 'correct'},
  {'number': 1, 'start': 4.0, 'end': 7.0, 'actionable': True, 'demonstrated': True, 'execution': 'incorrect'},
  {'number': 2, 'start': 8.0, 'end': 11.0, 'actionable': False, 'demonstrated': False, 'execution': 'none'},
]


def judged(name, second='correct', copy_of=''):
  """The first piece right, the second with an execution, an advert that got through, and a sentence without a piece."""
  yes = Verdict(True, '', 'x')
  segments = [
    Segment(0, 'a b c', (0.0, 3.0), actionable=yes, demonstrated=yes, execution='correct'),
    Segment(1, 'd e f', (4.1, 7.0), actionable=yes, demonstrated=yes, execution=second),
    Segment(2, 'g h i', (8.0, 11.0), actionable=yes, demonstrated=Verdict(False, '', 'x')),
    Segment(3, 'j k l', (11.2, 15.0), actionable=Verdict(False, '', 'x')),
  ]
  segments[2].drop('demonstrated', 'not demonstrated')
  segments[3].drop('actionable', 'not actionable')
  return Video(name, 'p', {}, '', segments=segments)


def known(**more):
  return {'fate': 'whole', 'copy_of': '', 'pieces': PIECES, **more}


def test_each_gate_has_its_precision_and_recall():
  scores = truth.of([judged('a')], {'a': known()}).scores()
  values = {name: (precision.value, recall.value) for name, (precision, recall, _) in scores.items()}
  assert values['sentences'] == (75.0, 100.0)
  assert values['actionable'] == (pytest.approx(200 / 3), 100.0)
  assert values['demonstrated'] == (100.0, 100.0)
  assert values['execution: correct'] == (50.0, 100.0)
  assert values['library'] == (50.0, 50.0)  # one right, one shown as what it is not


def test_all_but_one_of_the_copies_must_go():
  first, copy, other = judged('a'), judged('b'), judged('c')
  copy.segments[0].drop('duplicates', 'nearly the same frames')
  copy.segments[0].duplicate_of = 'a/0000'
  other.segments[1].drop('duplicates', 'nearly the same frames')
  other.segments[1].duplicate_of = 'a/0000'
  about = {'a': known(), 'b': known(copy_of='a', fate='copy'), 'c': known()}
  precision, recall, count = truth.of([first, copy, other], about).scores()['duplicates']
  assert precision.value == 50.0  # one of two that were dropped
  assert recall.value == 50.0  # one of the two copied pieces
  assert count == 3


def test_what_nobody_knows_is_passed_over():
  found = truth.of([judged('z')], {'a': known()})
  assert all(count == 0 for *_, count in found.scores().values())
  tables, _ = found.tables()
  assert len(tables) == 2
