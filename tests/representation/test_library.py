import numpy as np
import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.representation.library import open_library


@pytest.fixture(scope='module')
def directory(tmp_path_factory, write_dataset):
  """Four training clips, of which one is silent, and two test clips, of two seconds."""

  def clip(number, said):
    return Clip(
      f'v{number}/0', 'library', 'judo', 'hip throw', f'channel {number}', f'v{number}', ['main'],
      frames=np.full((1, 8, 64, 64, 3), number, np.uint8), frame_times=np.arange(8, dtype=np.float32)[None] / 4,
      commentary=said, commentary_time=1.0,
    )  # fmt: skip

  said = ['Turn in.', '', 'Sink lower.', 'Pull him close.', 'Turn in.', 'Sink.']
  clips = [clip(number, text) for number, text in enumerate(said)]
  return write_dataset(tmp_path_factory.mktemp('data'), {'train': clips[:4], 'test': clips[4:]})


def test_clips_are_shown_by_frames_or_features(directory, tmp_path):
  config = settings.load_config(
    'configs/sportskills.py:dataset=library',
    ('encoder.source=frames', 'tokenizer.vocab_size=300', 'split.validation_share=0.0'),
  )
  setting, test = open_library(config, tmp_path / 'run', directory)
  assert {setting.clips[i].clip_id for i in setting.train} == {'v0/0', 'v2/0', 'v3/0'}
  assert len(test) == 2
  assert setting.valid([0, 1]).shape == (2, 1, 2)
  assert setting.video(0)['frames'].shape == (1, 8, 64, 64, 3)
  assert setting.encoder is not None
  # another encoder, another run
  with pytest.raises(settings.SettingsError, match='holds a run of another config'):
    open_library(settings.load_config('configs/sportskills.py:dataset=library'), tmp_path / 'run', directory)
