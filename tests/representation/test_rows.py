import dataclasses

import jax
import numpy as np
import pytest

from crosstrainer_jax.models import encoders
from crosstrainer_jax.representation import rows
from tests.models import clip_directory


def test_the_untrained_row_does_not_train(retrieval_setting, tmp_path):
  made = rows.open_row(rows.UNTRAINED, retrieval_setting(tmp_path))
  assert made.clip_vectors([0, 1]).shape == made.text_vectors(['Well done.', 'Work on timing.']).shape == (2, 16)
  assert not (tmp_path / 'towers').exists()


def test_labels_say_sport_and_skill(retrieval_setting, tmp_path):
  clip = retrieval_setting(tmp_path).clips[0]
  assert rows.label(clip) == 'soccer: kick'
  assert rows.narration(clip) == clip.commentary


def test_an_unknown_row_is_told(retrieval_setting, tmp_path):
  with pytest.raises(ValueError, match='known: untrained, activity labels, how-to narration'):
    rows.open_row('all', retrieval_setting(tmp_path))


@pytest.fixture(scope='module')
def clip_model(tmp_path_factory):
  return clip_directory.write(tmp_path_factory.mktemp('hub') / 'clip')


def with_frames(retrieval_setting, folder, clip_model, **contrastive):
  """Clips as two frames of one view, through CLIP's image tower."""
  encoder = encoders.load(clip_model)
  setting = retrieval_setting(
    folder, text_encoder=str(clip_model), head='none', epochs=1.0, batch_size=8, **contrastive
  )
  frames = np.random.default_rng(0).integers(0, 255, (180, 1, 2, 20, 20, 3)).astype(np.uint8)
  return dataclasses.replace(
    setting,
    train=list(range(16)),
    video=lambda i: {'frames': frames[i], 'frames_valid': np.ones((1, 2), bool)},
    valid=lambda indices: np.ones((len(indices), 1, 2), bool),
    encoder=encoder,
  )


def test_both_towers_of_clip_are_one_space_before_any_training(retrieval_setting, tmp_path, clip_model):
  setting = with_frames(retrieval_setting, tmp_path, clip_model)
  made = rows.open_row(rows.UNTRAINED, setting)
  image = encoders.load(clip_model)
  frames = setting.video(3)['frames']
  features = np.asarray(image.apply(image.params, frames))[0]
  mean = (features / np.linalg.norm(features, axis=-1, keepdims=True)).mean(0)
  np.testing.assert_allclose(made.clip_vectors([3])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_tower_trains_by_adapters_and_what_was_there_stays(retrieval_setting, tmp_path, clip_model):
  made = rows.open_row(rows.NARRATION, with_frames(retrieval_setting, tmp_path, clip_model, lora_rank=2))
  before, after = (jax.tree_util.tree_leaves_with_path(state) for state in (made._initial, made._params))
  moved = {
    jax.tree_util.keystr(path): not np.array_equal(one, other)
    for (path, one), (_, other) in zip(before, after, strict=True)
  }
  adapters = [name for name in moved if 'lora_b' in name]
  assert len(adapters) == 8  # q, k, v and out of both towers, each a stack of layers
  assert all(moved[name] for name in adapters)
  assert not any(moved[name] for name in moved if 'lora' not in name and ('encoder' in name or "'text'" in name))


def test_a_text_tower_that_does_not_fit_is_told(retrieval_setting, tmp_path, clip_model):
  setting = retrieval_setting(tmp_path, text_encoder=str(clip_model))
  with pytest.raises(ValueError, match="contrastive.head='none'"):
    rows.open_row(rows.UNTRAINED, setting)
  features = with_frames(retrieval_setting, tmp_path, clip_model)
  plain = retrieval_setting(tmp_path)
  cached = dataclasses.replace(features, encoder=None, video=plain.video, valid=plain.valid)
  assert rows.open_row(rows.UNTRAINED, cached).clip_vectors([0, 1]).shape == (2, 16)
  with pytest.raises(ValueError, match='needs a text_encoder'):
    rows.open_row(rows.UNTRAINED, retrieval_setting(tmp_path, head='none'))
