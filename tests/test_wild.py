"""A run on videos in the wild: what the coach in them says is the reference, and what cannot be used is counted."""

import json
import shutil

import pytest

from crosstrainer_jax import judging, wild
from crosstrainer_jax.datasets.youtube.source import YouTube
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from tests.inference.test_coach import write_video

SAID = (
  '1\n00:00:01,000 --> 00:00:03,000\nYour knees stay too straight here.\n\n'
  '2\n00:00:05,000 --> 00:00:07,000\nHere the balance is great.\n'
)


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / 'videos'
  root.mkdir()
  write_video(root / 'Good [aaaaaaaaaaa].mp4', 9)
  (root / 'Good [aaaaaaaaaaa].en.srt').write_text(SAID)
  (root / 'Broken [bbbbbbbbbbb].mp4').write_bytes(b'no video')
  (root / 'Broken [bbbbbbbbbbb].en.srt').write_text(SAID)
  write_video(root / 'Silent [ccccccccccc].mp4', 2)
  return root


def test_each_sentence_is_the_reference_of_its_window(small_run, small_data, folder, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(small_run, workdir)
  report = wild.evaluate(workdir, small_data, YouTube(str(folder), 'frisbee'), 'the command')
  assert (report.n_clips, report.n_headline, report.setting) == (2, 1, 'wild')
  assert set(report.rows) == {'CrossTrainer', 'always none', 'random', 'majority'}
  assert {'IoU@1.0', 'BLEU-4'} <= set(report.columns)
  assert not any('F1' in column for column in report.columns)
  place = workdir / 'wild' / 'videos'
  first, second = read_references(place / 'predictions' / 'references.jsonl')
  assert (first.sport, first.attributes, second.attributes) == ('frisbee', ['knee bend'], [])
  assert 'straight' in first.commentary
  ours = read_predictions(place / 'predictions' / 'CrossTrainer.jsonl')
  assert [p.clip_id for p in ours] == [first.clip_id, second.clip_id]
  assert all(p.feedback is not None and p.attributes is not None for p in ours)
  assert json.loads((place / 'report.json').read_text())['command'] == 'the command'
  out = capsys.readouterr().out
  assert 'bbbbbbbbbbb' in out
  shown = wild.pictures(place, str(folder))
  assert list(shown) == [first.clip_id, second.clip_id]
  written = judging.write_sheet(place, shown, 5, 0)
  assert written == place / 'human' / 'feedback'
  page = (written / 'sheet.html').read_text()
  assert page.count('data:image/webp') == 1  # of the sentence that names a fault
  assert 'Your knees stay too straight' in page
  (place / wild.WINDOWS).unlink()
  with pytest.raises(FileNotFoundError, match='evaluate these videos again'):
    wild.pictures(place, str(folder))
  assert 'ccccccccccc' in out


def test_a_folder_without_narration_is_a_clear_error(small_run, small_data, tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='no video with usable narration'):
    wild.evaluate(small_run, small_data, YouTube(str(tmp_path / 'empty'), 'frisbee'), '')
