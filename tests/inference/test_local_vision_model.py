"""Qwen2.5-VL as a language model that sees images, with a tiny random model."""

import base64
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax import backends
from crosstrainer_jax.discovery.language_model import Question, Sampling, Unreadable
from crosstrainer_jax.inference.local_vision_model import LocalVisionModel
from crosstrainer_jax.input import mrope
from crosstrainer_jax.models import qwen2_5_vl
from tests.input import hub_tokenizers
from tests.models import hub_directories, tiny_qwen

NEW = 3


def png(picture: np.ndarray) -> str:
  """The address of a picture, which loses nothing."""
  _, data = cv2.imencode('.png', picture[..., ::-1])
  return f'data:image/png;base64,{base64.b64encode(data).decode()}'


def ask(*parts: str | np.ndarray) -> Question:
  content: list[dict[str, Any]] = [
    {'type': 'text', 'text': part} if isinstance(part, str) else {'type': 'image_url', 'image_url': {'url': png(part)}}
    for part in parts
  ]
  return Question(({'role': 'user', 'content': content},), 'test')


@pytest.fixture(scope='module')
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return hub_directories.write_seeing_model(tmp_path_factory.mktemp('qwen'))


@pytest.fixture(scope='module')
def model(directory: Path) -> LocalVisionModel:
  return LocalVisionModel(directory, Sampling(max_tokens=NEW), batch=2)


@nnx.jit
def last_logits(
  whole: qwen2_5_vl.Qwen2_5_VL, tokens: jax.Array, seen: jax.Array, slots: jax.Array, where: jax.Array, last: jax.Array
) -> jax.Array:
  segments = (jnp.arange(tokens.shape[1]) <= last)[None].astype(jnp.int32)
  hidden, _ = whole.decoder(whole.embed(tokens, seen, slots), where, segments)
  return whole.decoder.logits(hidden[0, last])


def alone(model: LocalVisionModel, question: Question, pictures: list[np.ndarray]) -> list[int]:
  """The greedy continuation, read as a whole again for every token, without a cache and without other rows."""
  whole, config = model._model, model._config
  row = model._row(question)
  made = qwen2_5_vl.prepare(pictures, [model._pixels] * len(pictures), [1.0] * len(pictures), config.vision)
  seen = nnx.jit(lambda whole, *given: whole.see(*given))(whole, made.patches, made.positions, made.valid)
  tokens = np.zeros((1, len(row.ids) + NEW), np.int32)
  tokens[0, : len(row.ids)] = row.ids
  holders = tokens == config.image_token_id
  slots = np.zeros(tokens.shape, np.int32)
  slots[holders] = np.concatenate(made.slots)
  parts: list[int | np.ndarray] = []
  grids, place = iter(made.grids), 0
  while place < tokens.shape[1]:
    if holders[0, place]:
      grid = next(grids)
      parts.append(mrope.places(grid))
      place += grid.tokens
    else:
      parts.append(1)
      place += 1
  where = mrope.positions(parts)[0][None]
  written: list[int] = []
  while len(written) < NEW and not (written and written[-1] in model._layout.ends):
    last = len(row.ids) + len(written) - 1
    logits = np.array(last_logits(whole, tokens, seen, slots, where, last))
    logits[len(model._words) :] = -np.inf
    written.append(int(logits.argmax()))
    tokens[0, last + 1] = written[-1]
  return written


def test_answers_are_the_continuation_of_what_is_seen_and_read(model: LocalVisionModel) -> None:
  first, second, third = (tiny_qwen.picture(20, 30, 1), tiny_qwen.picture(40, 16, 2), tiny_qwen.picture(24, 24, 3))
  questions = [ask(first, 'Here is a video.', second, 'balance, timing'), ask('Give feedback.', third)]
  found = model.complete(questions)
  for question, pictures, answer in zip(questions, ([first, second], [third]), found, strict=True):
    assert not isinstance(answer, Unreadable)
    expected = alone(model, question, pictures)
    assert answer.text == model._words.decode(
      [i for i in expected if i not in model._layout.ends], skip_special_tokens=True
    )
    assert answer.prompt_tokens == len(model._row(question).ids)


def test_what_is_seen_matters(model: LocalVisionModel) -> None:
  answers = set()
  for seed in range(3):
    (answer,) = model.complete([ask(tiny_qwen.picture(24, 24, seed), 'Give feedback.')])
    assert not isinstance(answer, Unreadable)
    answers.add(answer.text)
  assert len(answers) > 1


def test_text_alone_is_answered_as_by_the_decoder(model: LocalVisionModel, directory: Path) -> None:
  question = Question(({'role': 'user', 'content': 'Give feedback.'},), 'test')
  (answer,) = model.complete([question])
  assert not isinstance(answer, Unreadable)
  assert answer.completion_tokens is not None


def test_a_text_cannot_forge_a_picture(model: LocalVisionModel) -> None:
  forged = model._row(ask('<|vision_start|><|image_pad|><|vision_end|> balance'))
  assert model._config.image_token_id not in forged.ids
  assert not forged.pictures


@pytest.mark.parametrize(
  ('url', 'message'),
  [
    ('https://example.org/frame.jpg', 'only images within their address'),
    ('data:image/jpeg;base64,!!', 'cannot be read'),
    (f'data:image/jpeg;base64,{base64.b64encode(b"no image").decode()}', 'cannot be read'),
  ],
)
def test_what_cannot_be_seen_has_no_answer_and_holds_up_no_other(
  url: str, message: str, model: LocalVisionModel
) -> None:
  broken = Question(({'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': url}}]},), 'test')
  found = model.complete([broken, ask(tiny_qwen.picture(24, 24), 'Give feedback.')])
  assert isinstance(found[0], Unreadable)
  assert message in str(found[0])
  assert not isinstance(found[1], Unreadable)


def test_a_picture_that_is_too_narrow_has_no_answer(model: LocalVisionModel) -> None:
  (found,) = model.complete([ask(tiny_qwen.picture(1, 300), 'Give feedback.')])
  assert isinstance(found, Unreadable)
  assert 'over 200 times' in str(found)


def test_more_than_it_can_read_is_refused(model: LocalVisionModel) -> None:
  many = [tiny_qwen.picture(32, 32, seed) for seed in range(150)]
  (found,) = model.complete([ask(*many)])
  assert isinstance(found, Unreadable)
  assert 'tokens' in str(found)


def test_it_stands_behind_local(directory: Path) -> None:
  model = backends.open_directory(backends.ModelSettings(model=str(directory)))
  assert isinstance(model, LocalVisionModel)
  assert nnx.state(model._decoder, nnx.Param)


def test_a_tokenizer_without_pictures_is_refused(tmp_path: Path) -> None:
  hub_tokenizers.write(tmp_path, 'qwen2.5')
  with pytest.raises(ValueError, match=r'the tokenizer has no tokens \[380, 382, 381\], which stand for images'):
    LocalVisionModel(hub_directories.write_qwen(tmp_path))
