import csv
import json

import pytest

from crosstrainer_jax import judging
from crosstrainer_jax.curation import audit


def test_both_verdicts_are_drawn_and_judges_do_not_see_which(curated, howto, tmp_path):
  import shutil

  place = tmp_path / 'library'
  shutil.copytree(curated, place)
  key, unseen = audit.write(place, str(howto), 'demonstrated', 12, seed=1)
  assert unseen == 0
  systems = [item.system for item in key.items]
  assert len(systems) == 12
  assert set(systems) == {audit.KEPT, audit.DROPPED}
  page = (place / 'audit' / 'demonstrated' / 'sheet.html').read_text()
  assert audit.KEPT not in page
  assert 'Do the pictures show' in page

  form = place / 'audit' / 'demonstrated' / 'form.csv'
  with form.open(newline='') as file:
    rows = list(csv.DictReader(file))
  for row, item in zip(rows, key.items, strict=True):
    row |= {'rater': 'ann', 'answer': 'yes' if item.system == audit.KEPT else 'no'}
  with form.open('w', newline='') as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  judged = judging.judge([str(form)], str(form.with_name('key.json')))
  assert judged.systems[audit.KEPT].value == 100.0
  assert judged.systems[audit.DROPPED].value == 0.0


def test_executions_are_audited_too(curated, howto, tmp_path):
  import shutil

  place = tmp_path / 'library'
  shutil.copytree(curated, place)
  key, _ = audit.write(place, str(howto), 'execution', 4)
  assert {item.system for item in key.items} == {audit.CORRECT, audit.INCORRECT}
  assert json.loads(key.to_json())['kind'] == 'execution'


def test_an_unknown_gate_is_told(curated, howto):
  with pytest.raises(ValueError, match='known are actionable, demonstrated, execution'):
    audit.write(curated, str(howto), 'window')
