import io
import json

import numpy as np
import pytest

from crosstrainer_jax.representation import scoring
from crosstrainer_jax.representation.report import Report, plot, read, summary
from tests.representation.test_scoring import clips


def made():
  known = clips()
  pools = scoring.draw_pools(known, 8)
  found = scoring.ranks_of(np.eye(24), np.eye(24), pools)
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


def test_seeds_are_averaged_with_their_range():
  one, other = json.loads(made().to_json()), json.loads(made().to_json())
  other['rows']['untrained']['all']['R@1']['value'] = 50.0
  whole, parts = summary([one, other])
  assert dict(whole.rows)['untrained'][0] == '75.0 (50.0–100.0)'
  assert dict(whole.rows)['random'] == ['12.5', '62.5', '4.5']
  assert parts.columns == ['judo', 'soccer', 'correct', 'incorrect']
  other['rows']['untrained']['judo']['R@5']['value'] = None
  assert dict(summary([one, other])[1].rows)['untrained'][0] == '–'
  other['pool'] = 9
  with pytest.raises(ValueError, match='cannot be averaged'):
    summary([one, other])


def test_what_is_no_report_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match='represent writes one'):
    read(tmp_path / 'r.json')
  (tmp_path / 'r.json').write_text('{"rows": {}}')
  with pytest.raises(ValueError, match='no report of represent'):
    read(tmp_path / 'r.json')
