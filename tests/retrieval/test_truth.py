import numpy as np

from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.retrieval import truth
from crosstrainer_jax.retrieval.truth import Topic


def topic(sport, *faults):
  return Topic(sport, frozenset(faults))


def test_grades_are_of_fault_direction_and_sport():
  learners = [topic('judo', ('balance', 'swaying'), ('timing', 'late'))]
  candidates = [
    topic('judo', ('timing', 'late')), topic('judo', ('timing', 'early')), topic('golf', ('timing', 'late')),
    topic('judo', ('knee bend', 'too deep')), topic('judo'),
  ]  # fmt: skip
  np.testing.assert_array_equal(truth.grades(learners, candidates), [[2, 1, 0, 0, 0]])


def test_a_lesson_is_about_the_piece_in_whose_time_it_is_said():
  pieces = [
    {'start': 0.2, 'fault': '', 'direction': ''},
    {'start': 4.2, 'fault': 'timing', 'direction': 'late'},
  ]
  clip = ClipInfo(
    'v/1', 'judo', 'throw', 'c', 'v', 'test', ['main'], 'x', None, [], [], [], False, -1, commentary_time=4.0
  )
  assert truth.topic_of_lesson(clip, {'v': {'pieces': pieces}}) == topic('judo', ('timing', 'late'))
  clip.commentary_time = 0.5
  assert truth.topic_of_lesson(clip, {'v': {'pieces': pieces}}) == topic('judo')
