import numpy as np
import pytest

from crosstrainer_jax.retrieval.material import PaddedFeatures, open_material
from tests.retrieved import POOLS, SAID, clip, small_config


def test_features_of_both_have_one_shape():
  learners = [np.full((3, 4, 5), n, np.float16) for n in range(2)]
  library = [np.full((1, 2, 5), 10 + n, np.float16) for n in range(3)]
  video = PaddedFeatures((learners, library), (0, 2), (3, 4))
  assert [video(n)['features'].shape for n in range(5)] == [(3, 4, 5)] * 5
  assert [int(video(n)['features'][0, 0, 0]) for n in range(5)] == [0, 1, 10, 11, 12]
  assert not video(2)['features'][1:].any()
  assert not video(2)['features'][0, 2:].any()


@pytest.fixture
def opened(retrieved, tmp_path):
  """Opens copies of the datasets, of which some clips are changed."""

  def open_them(write_dataset, **changed):
    folders = []
    for name in SAID:
      pools = {pool: [clip(name, n) for n in numbers] for pool, numbers in POOLS.items()}
      for one in (one for members in pools.values() for one in members):
        vars(one).update(changed.get(one.clip_id, {}))
      folders.append(write_dataset(tmp_path / name, pools))
    return open_material(small_config(retrieved), tmp_path / 'run', *folders)

  return open_them


def test_clips_without_words_are_left_out_and_counted(opened, write_dataset, capsys):
  silent = {name: {'commentary': ' '} for name in ('learners0', 'lessons1', 'lessons10')}
  material = opened(write_dataset, **silent)
  said = capsys.readouterr().out
  assert '2 of 18 clips of the library have no words' in said
  assert '1 of ' in said
  known = {material.clips[index].clip_id for index in (*material.library_train, *material.library_test)}
  assert known == {f'lessons{n}' for n in range(18)} - {'lessons1', 'lessons10'}
  assert 'learners0' not in {material.clips[index].clip_id for index in material.setting.train}
  assert not set(material.library_train) & set(material.library_test)
  assert {material.clips[index].clip_id for index in material.library_test} <= {f'lessons{n}' for n in range(9, 18)}
  assert all(material.spoken[index].clip_id == material.clips[index].clip_id for index in material.spoken)


def test_one_name_for_two_clips_is_refused(opened, write_dataset):
  with pytest.raises(ValueError, match='rename a take'):
    opened(write_dataset, lessons3={'clip_id': 'learners3'})
