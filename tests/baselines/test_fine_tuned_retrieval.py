"""Fine-tuned retrieval: what is said of a clip is found by its video."""

import numpy as np
import pytest

from crosstrainer_jax.baselines import fine_tuned_retrieval
from crosstrainer_jax.baselines.prediction import Reference

TEST = list(range(120, 180))


@pytest.fixture(scope='module')
def trained(retrieval_setting, tmp_path_factory):
  setting = retrieval_setting(tmp_path_factory.mktemp('row'))
  fine_tuned_retrieval.train(setting)
  return setting


def blank(setting, index):
  """A reference of which only the identity is known."""
  clip = Reference.from_clip(setting.clips[index])
  return Reference(clip.clip_id, clip.take, clip.sport, clip.skill, '', [], None, '')


def test_the_nearest_commentary_is_the_answer(trained):
  answers = fine_tuned_retrieval.predict(trained, TEST, [blank(trained, i) for i in TEST])
  training = {trained.clips[i].commentary: trained.clips[i] for i in reversed(trained.train)}
  for answer in answers:
    source = training[answer.feedback]  # the first clip that it was said of
    assert (answer.attributes, answer.level) == (source.incorrect, source.proficiency)
  assert [answer.clip_id for answer in answers] == [trained.clips[i].clip_id for i in TEST]
  right = np.mean([a.feedback == trained.clips[i].commentary for a, i in zip(answers, TEST, strict=True)])
  assert right > 0.8  # of seven different comments, the most frequent of which is right in fewer than half


def test_what_is_trained_is_read_back(trained, capsys):
  before = fine_tuned_retrieval.predict(trained, TEST, [blank(trained, i) for i in TEST])
  fine_tuned_retrieval.train(trained)
  assert 'done before' in capsys.readouterr().out
  assert fine_tuned_retrieval.predict(trained, TEST, [blank(trained, i) for i in TEST]) == before


def test_an_untrained_row_says_so(retrieval_setting, tmp_path):
  with pytest.raises(FileNotFoundError, match='fine-tuned retrieval is not trained'):
    fine_tuned_retrieval.predict(retrieval_setting(tmp_path), TEST, [])
