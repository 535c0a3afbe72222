"""Clips, rows and what is said where they do not fill a mesh."""

import numpy as np
import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.input.record import Clip as Record
from crosstrainer_jax.planning import workload
from crosstrainer_jax.planning.workload import Clip, Workload


def test_the_papers_update_fills_ten_rows():
  update = Workload(Clip(), 128, 2048, shards=8)
  assert (update.clip.tokens, update.full_rows, update.real_tokens) == (155, 10, 19_840)
  # two rows for each of eight parts, of eight clips each: no longer than they must be
  assert (update.shape.rows, update.shape.tokens, update.rows_at_once) == (16, 1280, 2)
  assert update.fill == pytest.approx(19_840 / (16 * 1280))
  # room for eight, and some for updates of other lengths
  assert 8 <= update.shape.clips <= 12
  assert 8 * 40 <= update.shape.targets <= 12 * 40
  assert update.warning(8) == ''
  halves = Workload(Clip(), 128, 2048, shards=8, accumulate=2)
  assert (halves.shape, halves.rows_at_once) == (update.shape, 1)


def test_more_parts_than_rows_are_warned_of():
  update = Workload(Clip(), 128, 2048, shards=256)
  warning = update.warning(256)
  # half of the rows are empty
  assert (update.shape.rows, update.fill < 0.4) == (256, True)
  assert 'The most chips that are of use is 8;' in warning
  # what is proposed does fill them, and one clip less does not
  assert '--config.training.batch_size=3316 ' in warning
  assert Workload(Clip(), 3316, 2048, 256).warning(256) == ''
  assert Workload(Clip(), 3315, 2048, 256).warning(256)
  # two chips share a row where matrices are split over two
  assert 'The most chips that are of use is 16;' in Workload(Clip(), 128, 2048, shards=128).warning(256)


def test_a_clip_longer_than_a_row_is_an_error():
  with pytest.raises(ValueError, match=r'a clip of 2605 tokens is longer than a row of 2048.*row_tokens'):
    Workload(Clip(views=5, seconds=500), 128, 2048)
  with pytest.raises(ValueError, match='--views is 0'):
    Clip(views=0)


def test_rows_are_as_long_as_the_config_says():
  config = settings.load_config('configs/cross_sport.py:paper')
  assert workload.longest_row(config) == 2048
  assert workload.make_workload(config, Clip(), 8) == Workload(Clip(), 128, 2048, 8)


def test_a_prepared_dataset_is_measured(tmp_path, write_dataset):
  def record(name, views, seconds, words):
    times = np.arange(4 * seconds, dtype=np.float32)[None].repeat(views, 0) / 4
    frames = np.zeros((views, 4 * seconds, 2, 2, 3), np.uint8)
    text = ' '.join(['bend'] * words)
    return Record(name, 'tiny', 'golf', 'putt', 'p', name, ['a'] * views, frames, times, commentary=text)

  directory = write_dataset(tmp_path, {'train': [record('a', 2, 3, 10), record('b', 1, 5, 10), record('c', 1, 2, 0)]})
  clip = workload.of_dataset(directory, template_tokens=0)
  assert (clip.views, clip.seconds) == (2, 5)
  # ten words of 1.3 tokens, and the end
  assert clip.target_tokens == 14
  assert 30 < clip.prompt_tokens < 80
  assert workload.of_dataset(directory, template_tokens=30).prompt_tokens == clip.prompt_tokens + 30
  assert '(3 clips' in clip.source
  silent = write_dataset(tmp_path / 'silent', {'train': [record('a', 1, 2, 0)]})
  assert workload.of_dataset(silent) is None
