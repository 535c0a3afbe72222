import json

import numpy as np
import pytest

from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.retrieval import library
from crosstrainer_jax.retrieval.weak import Spoken


def info(times, extra=''):
  return ClipInfo(
    'v1/0003', 'judo', 'hip throw', 'dojo', 'v1', 'train', ['main'], 'Turn in.', np.array([times], np.float32), [], [],
    [], False, -1, extra=extra,
  )  # fmt: skip


def test_a_clip_is_where_its_frames_are():
  extra = json.dumps({'execution': 'correct', 'url': 'https://v.test/1', 'spoken': [3, 4]})
  made = library.of_info(info([3.0, 3.5, 4.0, np.nan], extra), Spoken('v1/0003', 'judo', frozenset({'timing', 'hips'})))
  assert (made.start, made.end) == (3.0, 4.5)
  assert (made.url, made.execution, made.attributes) == ('https://v.test/1', 'correct', ('hips', 'timing'))
  bare = library.of_info(info([np.nan]), Spoken('v1/0003', 'judo', frozenset()))
  assert (bare.url, bare.start, bare.end) == ('', 0.0, 0.0)


def test_it_comes_back(tmp_path):
  clips = [library.of_info(info([n]), Spoken('x', 'judo', frozenset({'hips'}))) for n in range(3)]
  library.write(tmp_path, clips, np.eye(3))
  again, vectors = library.read(tmp_path)
  assert again == clips
  np.testing.assert_array_equal(vectors, np.eye(3))
  np.save(tmp_path / 'library' / 'vectors.npy', np.eye(2))
  with pytest.raises(ValueError, match='3 clips, but 2 vectors'):
    library.read(tmp_path)


def test_a_folder_without_one_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match='finished run'):
    library.read(tmp_path)
