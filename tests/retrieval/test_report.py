import io
import json

import numpy as np

from crosstrainer_jax.retrieval import scoring
from crosstrainer_jax.retrieval.report import Report


def made():
  gains = np.tile(np.array([[2.0] + [0.0] * 59]), (3, 1))
  one = scoring.score(gains, gains, 2, ['a', 'b', 'c'], 20)
  return Report({'first': one, 'second': one}, {'first − second': {'R@10': one['R@10']}}, {'R@1': 5.0}, ['Seed 0.'])


def test_a_page_has_rows_beside_lots_and_differences():
  page = made().to_markdown()
  assert '| by lot (exact) | 5.0 |' in page
  assert '| first | 100.0' in page
  assert 'Differences, paired by take' in page
  assert '- Seed 0.' in page
  assert json.loads(made().to_json())['rows']['second']['nDCG@10']['value'] == 100.0
  screen = io.StringIO()
  made().print(screen)
  assert 'The clip to watch' in screen.getvalue()
