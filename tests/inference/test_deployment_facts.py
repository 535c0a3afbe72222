"""The facts beside an exported model: enough to make the prompts of the run, and readable as JSON."""

import dataclasses
import json

import pytest

from crosstrainer_jax.inference import deployment_facts
from crosstrainer_jax.inference.trained import read_trained
from crosstrainer_jax.input import examples
from tests.inference import finished_runs


@pytest.fixture(scope='module')
def compact(small_run):
  return read_trained(small_run)


@pytest.fixture(scope='module')
def llama(small_data, tmp_path_factory):
  root = tmp_path_factory.mktemp('llama')
  base = finished_runs.write_base(root / 'base', 'llama3')
  return read_trained(finished_runs.finish(finished_runs.config_on(base), root / 'run', small_data))


def there_and_back(facts):
  return json.loads(deployment_facts.as_json(facts))


def test_json_has_a_line_for_each_name():
  facts = {'a': [1, 2], 'b': {'c': None, 'd': ('ß',)}, 'e': 0.5}
  assert deployment_facts.as_json(facts) == '{\n "a": [1, 2],\n "b": {"c": null, "d": ["ß"]},\n "e": 0.5\n}\n'


@pytest.mark.parametrize('which', ['compact', 'llama'])
def test_prompts_can_be_made_from_the_facts(which, request):
  """As examples/assess_with_torch.py does: ids around, texts before and after the video."""
  trained = request.getfixturevalue(which)
  text, facts = trained.text, there_and_back(deployment_facts.prompt_facts(trained))
  video = [facts['placeholder_id']] * (facts['views'] * facts['seconds'])
  filled = {'sport': 'golf', 'k': facts['k'], 'attributes': 'balance, timing'}
  for task in (examples.ATTRIBUTES, examples.FEEDBACK):
    before, after = (
      text.words.encode(part, add_special_tokens=False, split_special_tokens=True)
      for part in facts['prompts'][task].format(**filled).split(facts['video'])
    )
    ids = [*facts['before_ids'], *before, *video, *after, *facts['after_ids']]
    assert ids == text.prompt(task, 'golf', ['balance', 'timing'])
  assert facts['end_ids'] == list(text.ends)
  assert facts['banned_ids'] == list(text.banned)
  assert facts['max_attribute_tokens'] == trained.config.eval.max_attribute_tokens
  assert facts['confidence']['threshold'] == trained.card.threshold
  assert (facts['levels'] is None) == (which == 'llama')


def test_a_model_ends_where_its_layout_ends(compact, llama):
  facts = there_and_back(deployment_facts.generation_facts(compact))
  assert facts['do_sample'] is False
  assert facts['eos_token_id'] == list(compact.text.ends)
  # rows that only pad the table, and the placeholder
  assert {len(compact.text.words), compact.text.video_id} <= set(facts['suppress_tokens'])
  assert len(there_and_back(deployment_facts.generation_facts(llama))['eos_token_id']) == 3


def test_what_f_v_is_given(compact):
  facts = there_and_back(deployment_facts.preprocessing_facts(compact))
  assert (facts['frames'], facts['window_seconds'], facts['fit'], facts['size']) == (16, 4.0, 'letterbox', 64)
  small = dataclasses.replace(compact, card=dataclasses.replace(compact.card, frame_size=32))
  assert deployment_facts.preprocessing_facts(small)['size'] == 32
  facts = there_and_back(deployment_facts.encoder_facts(compact, 'encoder.safetensors', False))
  assert (facts['frames_per_second'], facts['feature_dim'], facts['image_size']) == (4, 256, 64)
  assert facts['fingerprint'] == compact.card.encoder
  assert facts['config']['keypoints'] == compact.encoder.config.keypoints
