"""The threshold of confidence."""

from crosstrainer_jax.inference.confidence import NEVER, choose_threshold


def test_the_lowest_threshold_that_is_precise_enough():
  chances = [{'balance': 0.9, 'timing': 0.2}, {'balance': 0.6}, {'timing': 0.4}]
  truths = [{'balance'}, {'balance'}, {'balance'}]
  assert choose_threshold(chances, truths, 0.6) == (0.4, 2 / 3)
  assert choose_threshold(chances, truths, 0.9) == (0.6, 1.0)
  assert choose_threshold(chances, truths, 0.5) == (0.2, 0.5)


def test_equal_probabilities_stand_or_fall_together():
  chances = [{'a': 0.5}, {'b': 0.5}, {'c': 0.5}]
  assert choose_threshold(chances, [{'a'}, {'b'}, set()], 0.9)[0] == NEVER
  assert choose_threshold(chances, [{'a'}, {'b'}, set()], 0.6) == (0.5, 2 / 3)


def test_never_sure_when_nothing_is_right():
  assert choose_threshold([{'a': 0.9}], [set()], 0.5) == (NEVER, 0.0)
  assert choose_threshold([], [], 0.5) == (NEVER, 0.0)


def test_empty_lists_are_no_attribute():
  assert choose_threshold([{'none': 0.9, 'a': 0.3}], [{'a'}], 0.9) == (0.3, 1.0)
