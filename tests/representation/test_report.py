import io
import json

import numpy as np

from crosstrainer_jax.representation import scoring
from crosstrainer_jax.representation.report import Report, plot, read
from tests.representation.test_scoring import clips


def made():
  known = clips()
  pools = scoring.draw_pools(known, 8)
  found = scoring.ranks_of(np.eye(24), pools)
  scores = scoring.score(found, known, pools, 50)
  return Report({'untrained': scores, 'how-to narration': scores}, 8, ['Seed 0.'])


def test_a_page_holds_rows_beside_chance_and_sports():
  page = made().to_markdown()
  assert '| random | 12.5 | 62.5 | 4.5 |' in page
  assert '| how-to narration | 100.0 [100.0, 100.0] |' in page
  assert '| | judo | soccer |' in page
  assert '| | correct | incorrect |' in page
  assert '- Seed 0.' in page
  screen = io.StringIO()
  made().print(screen)
  assert 'R@5 by sport' in screen.getvalue()


def test_numbers_come_back(tmp_path):
  file = tmp_path / 'r.json'
  file.write_text(made().to_json())
  content = read(file)
  assert content['rows']['untrained']['judo']['R@1']['value'] == 100.0
  assert content['random']['R@1'] == 12.5
  assert json.loads(made().to_json()) == content


def test_bars_are_drawn(tmp_path):
  assert plot(made(), tmp_path / 'bars.png').read_bytes().startswith(b'\x89PNG')
