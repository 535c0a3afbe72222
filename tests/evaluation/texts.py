"""Pairs of texts for the comparisons with public packages: random ones, and those that break scorers."""

from __future__ import annotations

import numpy as np

WORDS = (
  *('the', 'player', 'keeps', 'her', 'knee', 'bent', ',', 'and', 'The', 'ball', 'is', 'kicked', 'too', 'early', '!'),
  *(
    'balancing',
    'balance',
    'kicks',
    'late',
    'foot',
    "don't",
    'left-foot',
    'Ärmel',
    '☃',
    '膝を曲げて',
    'a.b',
    '.',
    '3.5',
  ),
)

# Text and reference.
EDGES = (
  ('', 'the ball is kicked'),
  ('ball', 'ball'),
  ('ball', 'knee'),
  ('the ball is', 'the ball is'),
  ('the ball is kicked', 'the ball is kicked'),
  ('qq ww ee rr tt', 'the ball is kicked too early'),
  ('the ww ball rr is', 'the ball is kicked too early'),
  ('the ball rr is kicked', 'the ball is kicked too early'),
  ('The BALL is kicked.', 'the ball is kicked .'),
  ('knee ' * 30, 'the knee'),
  ('knee', 'the knee ' * 30),
  ('...', '. . .'),
  ('!?', '?!'),
  ('"quoted" (text) [here]', '“quoted” text here'),
  ('膝を曲げて ☃', '☃ 膝を曲げて'),
  ('e\u0301te\u0301', 'été'),
  ('a\u00a0b\tc\nd', 'a b c d'),
  ("don't can't", 'do not cannot'),
  ('1,000.5 reps', '1000.5 reps'),
  ('&amp; <b>', '& b'),
)


def random_texts(seed: int, n: int, shortest: int = 0, longest: int = 16) -> list[str]:
  """`n` texts of `shortest` to `longest` - 1 words, repetitions included."""
  rng = np.random.default_rng(seed)
  return [' '.join(rng.choice(WORDS, rng.integers(shortest, longest))) for _ in range(n)]
