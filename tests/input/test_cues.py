import math

import pytest

from crosstrainer_jax.input.cues import Cue, mean_confidence, one_at_a_time, tidy


def test_a_cue_ends_where_the_next_begins():
  cues = [Cue(3, math.inf, 'c'), Cue(0, 5, 'a'), Cue(2, math.inf, 'b')]
  assert one_at_a_time(cues) == [Cue(0, 2, 'a'), Cue(2, 3, 'b'), Cue(3, 6, 'c')]


def test_a_pause_and_two_voices_at_once_stay():
  cues = [Cue(0, 1, 'a'), Cue(4, 6, 'b'), Cue(4, 7, 'c')]
  assert one_at_a_time(cues) == cues


def test_markup_goes_and_lines_stay():
  assert tidy('{\\an8} \ud83dBend \n\n your  knees &amp; wait') == 'Bend\nyour knees & wait'


def test_the_mean_leaves_out_what_nobody_knows():
  assert mean_confidence([(0.5, 1), (None, 9), (1.0, 3)]) == pytest.approx(0.875)
  assert mean_confidence([(None, 1), (0.5, 0)]) is None
