import pytest

from crosstrainer_jax import backends
from crosstrainer_jax.curation import steps


def test_the_steps_are_those_that_are_named():
  made = steps.steps(steps.Settings('/videos'))
  assert ['videos', *(step.name for step in made), 'duplicates'] == list(steps.NAMES)
  assert steps.askers(made) == []


def test_an_unknown_backend_is_told():
  with pytest.raises(ValueError, match='--actionable gpt: known are rules, openai, local'):
    steps.Settings('/videos', actionable='gpt')


def test_one_model_is_opened_once_and_another_may_look(tmp_path):
  text = backends.ModelSettings(model='words', base_url='http://127.0.0.1:9/v1', answers=str(tmp_path / 'a'))
  vision = backends.ModelSettings(model='eyes', base_url='http://127.0.0.1:9/v1', answers=str(tmp_path / 'a'))
  settings = steps.Settings(
    '/videos', punctuation='openai', actionable='openai', demonstrated='openai', text=text, vision=vision
  )
  made = steps.steps(settings)
  assert [asker.model.name for asker in steps.askers(made)] == ['words', 'eyes']
  assert 'demonstrated by openai' in settings.describe()
