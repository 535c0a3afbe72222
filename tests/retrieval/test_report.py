import io
import json

import numpy as np
import pytest

from crosstrainer_jax.retrieval import scoring
from crosstrainer_jax.retrieval.report import Report, read, summary


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


def test_seeds_make_means_and_spreads(tmp_path):
  (tmp_path / 'r.json').write_text(made().to_json())
  one = read(tmp_path / 'r.json')
  other = json.loads(json.dumps(one))
  other['rows']['first']['R@1']['value'] = 50.0
  whole, differences = summary([one, other])
  assert whole.columns == ['R@1', 'R@5', 'R@10', 'R@50', 'median rank', 'nDCG@10']
  assert whole.rows[0] == ('by lot (exact)', ['5.0 (5.0–5.0)', *['–'] * 5])
  assert whole.rows[1][1][0] == '75.0 (50.0–100.0)'
  assert differences.rows[0][0] == 'first − second'
  del other['rows']['second']
  with pytest.raises(ValueError, match='cannot be averaged'):
    summary([one, other])
