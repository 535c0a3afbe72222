"""What another program must know of a trained model to answer as this package does, as the content of JSON files."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from crosstrainer_jax.inference.model_card import shown
from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.input.record import LEVELS


def prompt_facts(trained: Trained) -> dict[str, Any]:
  """prompts.json: what stands around video tokens, and how answers are read."""
  text, config, card = trained.text, trained.config, trained.card
  layout = dataclasses.asdict(text.layout)
  return {
    'prompts': {task: prompts.templates()[task] for task in (examples.ATTRIBUTES, examples.FEEDBACK)},
    'video': prompts.VIDEO,
    'k': config.prompt.k,
    'views': card.views,
    'seconds': card.seconds,
    'before_ids': layout['before'],
    'after_ids': layout['after'],
    'close_ids': layout['close'],
    'end_ids': layout['ends'],
    'answers_begin_with': layout['space'],
    'placeholder_id': text.video_id,
    'pad_id': text.pad_id,
    'banned_ids': text.banned,
    'max_attribute_tokens': config.eval.max_attribute_tokens,
    'max_feedback_tokens': config.eval.max_feedback_tokens,
    'max_positions': trained.decoder.max_position,
    'dtype': config.decoder.dtype,
    'lists': prompts.list_rules(),
    'levels': LEVELS if trained.probe else None,
    'sports': card.sports,
    'confidence': {
      'threshold': card.threshold,
      'precision': card.precision,
      'validation_clips': card.validation_clips,
      'samples': config.assess.samples,
      'temperature': config.assess.temperature,
    },
  }


def preprocessing_facts(trained: Trained) -> dict[str, Any]:
  """preprocessing.json: from a video file to what f_v is given, and what f_v does first."""
  card, encoder = trained.card, trained.encoder
  inside = getattr(encoder.config, 'preprocessing', None)
  return {
    'frames_per_second': encoder.config.fps,
    'frames': card.frames,
    'window_seconds': card.frames / encoder.config.fps,
    'size': trained.frame_size,
    'fit': card.fit,
    'pixels': 'uint8, RGB',
    'normalisation': 'inside f_v' if inside is None else dataclasses.asdict(inside),
  }


def as_json(facts: Mapping[str, Any]) -> str:
  """JSON with a line for each of the outer names."""
  lines = (f' {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}' for name, value in facts.items())
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def generation_facts(trained: Trained) -> dict[str, Any]:
  """generation_config.json: greedily, without what is no word, to the end of the answer."""
  text = trained.text
  facts: dict[str, Any] = {'do_sample': False, 'eos_token_id': text.ends, 'pad_token_id': text.pad_id}
  if text.words.bos_token_id is not None:
    facts['bos_token_id'] = text.words.bos_token_id
  if text.banned:
    facts['suppress_tokens'] = text.banned
  return facts


def encoder_facts(trained: Trained, file: str | None, trains: bool) -> dict[str, Any]:
  """encoder.json: of which f_v the features are.

  Args:
    file: that holds it, beside this; None for one that is had elsewhere.
    trains: it is not what `weights` names any more.
  """
  encoder, eyes = trained.encoder, trained.config.encoder
  return {
    'name': encoder.name,
    'weights': shown(eyes.weights),
    'revision': eyes.revision,
    'file': file,
    'trained_with_the_rest': trains,
    'fingerprint': encoder.fingerprint,
    'frames_per_second': encoder.config.fps,
    'frames_per_token': encoder.config.frames_per_token,
    'image_size': encoder.config.image_size,
    'resizes': encoder.resizes,
    'feature_dim': encoder.config.feature_dim,
    'config': dataclasses.asdict(encoder.config),
  }
