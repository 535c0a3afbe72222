"""The judges' sheet: blinded, whole in one file, and tied to its key."""

import base64
import collections
import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from crosstrainer_jax import human_sheet
from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation.human import judge, read_answers, read_key
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from crosstrainer_jax.human_sheet import Answer, Case, write_sheet
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.pictures import ClipPictures, Picture

SYSTEMS = ('secret one', 'secret two', 'secret three')
PICTURE = Picture(np.random.default_rng(0).integers(0, 255, (2, 5, 8, 8, 3)).astype(np.uint8), 125)


def cases(count=12):
  return [
    Case(f'clip{n}', f'take{n}', 'soccer', PICTURE, [Answer(s, f'<b>says {s[7:]} of {n}') for s in SYSTEMS])
    for n in range(count)
  ]  # fmt: skip


@pytest.fixture
def page(tmp_path):
  key = write_sheet(tmp_path, cases(), human_sheet.FEEDBACK, seed=3)
  return key, (tmp_path / 'sheet.html').read_text(), tmp_path


def test_the_page_names_no_system_and_asks_for_nothing(page):
  _, text, _ = page
  assert 'secret' not in text
  assert 'clip0' not in text
  outside = [url for url in re.findall(r'(?:src|href)="([^"]*)"', text) if not url.startswith('data:')]
  assert not outside
  assert "default-src 'none'" in text
  assert 'http://' not in text.replace('http-equiv', '')
  assert '&lt;b&gt;says' in text
  assert '<b>' not in text


def test_the_key_tells_which_answer_is_whose(page):
  key, text, folder = page
  assert read_key(folder / 'key.json') == key
  for item in key.items:
    shown = re.search(rf'data-item="{item.item}".*?<blockquote>(.*?)</blockquote>', text)[1]
    assert f'says {item.system[7:]} of {item.clip_id[4:]}' in shown
  letters = collections.Counter((item.item[-1], item.system) for item in key.items)
  assert len(letters) == 9  # every system stands under every letter somewhere
  again = write_sheet(folder, cases(), human_sheet.FEEDBACK, seed=3)
  assert again == key
  assert write_sheet(folder, cases(), human_sheet.FEEDBACK, seed=4).sheet != key.sheet


def test_the_form_has_every_item_and_can_be_judged(page):
  key, _, folder = page
  rows = list(csv.DictReader((folder / 'form.csv').read_text().splitlines()))
  assert [row['item'] for row in rows] == [item.item for item in key.items]
  for rater in 'ab':
    with (folder / f'{rater}.csv').open('w', newline='') as file:
      writer = csv.DictWriter(file, rows[0])
      writer.writeheader()
      good = {item.item: item.system == 'secret two' for item in key.items}
      writer.writerows(row | {'rater': rater, 'answer': 'yes' if good[row['item']] else 'no'} for row in rows)
  judged = judge(key, *read_answers([folder / 'a.csv', folder / 'b.csv'], key))
  assert {name: interval.value for name, interval in judged.systems.items()} == {
    'secret one': 0, 'secret two': 100, 'secret three': 0,
  }  # fmt: skip
  assert judged.kappa == 1


def test_the_script_writes_the_columns_that_are_read(page):
  key, text, _ = page
  assert "['sheet,item,rater,answer,comment'].concat(rows)" in text
  assert f"const SHEET = '{key.sheet}'" in text
  assert len(re.findall('<fieldset', text)) == len(key.items)
  assert re.findall(r'type="radio" name="001-A" value="(\w+)"', text) == ['yes', 'no']


def test_pictures_move_and_lie_in_a_strip():
  moving = Image.open(io.BytesIO(PICTURE.moving()))
  assert (moving.n_frames, moving.size) == (5, (320, 160))
  strip = Image.open(io.BytesIO(PICTURE.strip()))
  assert strip.size == (5 * 120, 120)


def test_nothing_to_judge_and_too_many_systems_are_errors(tmp_path):
  with pytest.raises(ValueError, match='no clip to judge'):
    write_sheet(tmp_path, [], human_sheet.FEEDBACK)
  many = [Case('c', 't', 's', PICTURE, [Answer(str(n), 'x') for n in range(27)])]
  with pytest.raises(ValueError, match='27 systems are more than there are letters'):
    write_sheet(tmp_path, many, human_sheet.FEEDBACK)


def test_cases_of_a_run(small_run, small_data):
  references = read_references(small_run / 'predictions' / 'references.jsonl')
  row = read_predictions(small_run / 'predictions' / 'nearest_neighbour.jsonl')
  found = human_sheet.feedback_cases(ClipPictures(ClipSource(small_data)), references, {'nn': row}, 3, 0)
  assert 1 <= len(found) <= 3
  by_clip = {r.clip_id: (r, p) for r, p in zip(references, row, strict=True)}
  for case in found:
    reference, prediction = by_clip[case.clip_id]
    assert [(a.system, a.text) for a in case.answers] == [
      ('nn', prediction.feedback), (human_sheet.EXPERT, reference.commentary)
    ]  # fmt: skip
    assert case.picture.frames.shape[2:] == (64, 64, 3)
    assert case.picture.milliseconds == 250
  assert len({case.take for case in found}) == len(found)


def test_retrieved_clips_are_shown_beside_the_learners(small_data, tmp_path):
  source = ClipSource(small_data)
  pictures = ClipPictures(source)
  infos = [info for info in source.infos() if info.commentary][:3]
  path = tmp_path / 'found.jsonl'
  path.write_text('\n'.join(json.dumps({'clip_id': a.clip_id, 'candidate': b.clip_id})
                            for a, b in zip(infos, infos[1:], strict=False)))  # fmt: skip
  found = human_sheet.read_candidates(path, pictures)
  references = [Reference.from_clip(info) for info in infos]
  shown = human_sheet.retrieval_cases(pictures, references, {'ours': found}, 5, 0)
  assert {case.clip_id for case in shown} == {infos[0].clip_id, infos[1].clip_id}
  assert all(case.text == source[[i.clip_id for i in source.infos()].index(case.clip_id)].commentary for case in shown)
  write_sheet(tmp_path, shown, human_sheet.RETRIEVAL)
  text = (tmp_path / 'sheet.html').read_text()
  assert 'Does the second clip show how to correct this?' in text
  assert text.count('data:image/webp') == 4
  assert base64.b64encode(shown[0].answers[0].picture.strip()).decode() in text


@pytest.mark.parametrize(
  ('line', 'message'),
  [('{}', 'line 1: expected'), ('{"clip_id": "no", "candidate": "no"}', "has no clip 'no'"), ('x', 'line 1: expected')],
)
def test_wrong_candidates_are_a_clear_error(small_data, tmp_path, line, message):
  path = tmp_path / 'found.jsonl'
  path.write_text(line)
  with pytest.raises(ValueError, match=message):
    human_sheet.read_candidates(path, ClipPictures(ClipSource(small_data)))
