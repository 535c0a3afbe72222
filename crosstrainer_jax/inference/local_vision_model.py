"""Qwen2.5-VL from a directory of the hub as a language model that sees images: `--backend local` of what shows them."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from flax import nnx

from crosstrainer_jax.discovery.language_model import Message, Question, Sampling, Unreadable
from crosstrainer_jax.inference.local_model import LocalModel, Row, placed
from crosstrainer_jax.input import mrope
from crosstrainer_jax.models import hub_encoders, qwen2_5_vl
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.qwen2_5_vl import Qwen2_5_VL
from crosstrainer_jax.models.qwen_pixels import QwenPixels
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights.tensors import Tensors

# Pictures of many shapes are computed in arrays of few: time steps and windows are rounded up to multiples of these.
STEPS, WINDOWS = 8, 4
_DATA = re.compile(r'data:image/[\w.+-]+;base64,(.*)', re.DOTALL)


class LocalVisionModel(LocalModel):
  """The whole model in `directory`; arguments and errors as of `LocalModel`.

  Every image of a question is a picture of its own, in about its shape, of as many pixels as the model's processor
  allows.
  """

  def __init__(self, directory: str | Path, sampling: Sampling | None = None, batch: int = 4):
    super().__init__(directory, sampling, batch)
    folder, text = self._base.directory, self._base.config
    types = {'dtype': text.dtype, 'param_dtype': text.param_dtype}
    settings: dict[str, Any] = {**types, 'lora': None, 'max_position': text.max_position, 'attention': 'xla'}
    self._config = config = qwen2_5_vl.read_config(folder, dict(types), **settings)
    self._pixels = QwenPixels.from_hugging_face(hub_encoders.processor(folder), config.vision)
    ids = [config.vision_start_token_id, config.image_token_id, config.vision_end_token_id]
    words = {number: word for word, number in self._words.get_vocab().items()}
    if not set(ids) <= words.keys():
      raise ValueError(f'{folder}: the tokenizer has no tokens {ids}, which stand for images in config.json')
    self._marks = [words[number] for number in ids]

  @functools.cached_property
  def _model(self) -> Qwen2_5_VL:
    graph, like = placed(lambda: Qwen2_5_VL(self._config, nnx.Rngs(0), self._mesh), self._mesh)
    return nnx.merge(graph, qwen2_5_vl.load(Tensors(self._base.directory), self._config, like))

  @functools.cached_property
  def _decoder(self) -> Decoder:
    return self._model.decoder

  def _row(self, question: Question) -> Row:
    pictures = tuple(_decoded(url) for url in _urls(question.messages))
    found = self._ids([_as_text(message, self._marks) for message in question.messages])
    grids = iter([self._grid(picture) for picture in pictures])
    holder = self._config.image_token_id
    return Row(
      [same for number in found for same in ([holder] * next(grids).tokens if number == holder else [number])], pictures
    )

  def _grid(self, picture: np.ndarray) -> mrope.Grid:
    """Its merged tokens; raises Unreadable for what the model does not take."""
    vision = self._config.vision
    height, width, _ = picture.shape
    try:
      rows, columns = self._pixels.grid(height, width, vision)
    except ValueError as error:
      raise Unreadable(str(error)) from error
    return mrope.Grid(1, rows // vision.spatial_merge_size, columns // vision.spatial_merge_size)

  def _embeddings(self, rows: Sequence[Row], tokens: np.ndarray) -> tuple[jax.Array, jax.Array | None]:
    pictures = [picture for row in rows for picture in row.pictures]
    if not pictures:
      return super()._embeddings(rows, tokens)
    vision = self._config.vision
    count = len(pictures)
    made = qwen2_5_vl.prepare(pictures, [self._pixels] * count, [1.0] * count, vision, STEPS, WINDOWS)
    holders = tokens == self._config.image_token_id
    slots = np.zeros(tokens.shape, np.int32)
    positions = np.repeat(np.arange(tokens.shape[1], dtype=np.int32)[None, :, None], len(tokens), 0).repeat(3, 2)
    number = 0
    for row, given in enumerate(rows):
      own = range(number, number + len(given.pictures))
      number = own.stop
      if own:
        slots[row, holders[row]] = np.concatenate([made.slots[n] for n in own])
      places, _ = mrope.positions(list(_parts(given.ids, self._config.image_token_id, [made.grids[n] for n in own])))
      positions[row, : len(places)] = places
    inputs: Any = sharding.put_batch({'tokens': tokens, 'slots': slots, 'positions': positions}, self._mesh)
    embeddings = _see_and_embed(
      *nnx.split(self._model), inputs['tokens'], inputs['slots'], made.patches, made.positions, made.valid
    )
    return embeddings, inputs['positions']


@functools.partial(jax.jit, static_argnums=0)
def _see_and_embed(
  graph: nnx.GraphDef[Qwen2_5_VL],
  state: nnx.State,
  tokens: jax.Array,
  slots: jax.Array,
  patches: jax.Array,
  positions: jax.Array,
  valid: jax.Array,
) -> jax.Array:
  model = nnx.merge(graph, state)
  return model.embed(tokens, model.see(patches, positions, valid), slots)


def _parts(ids: Sequence[int], holder: int, grids: Sequence[mrope.Grid]) -> Iterator[int | np.ndarray]:
  """Numbers of words, and places of pictures, in their order."""
  place, pictures = 0, iter(grids)
  while place < len(ids):
    if ids[place] == holder:
      grid = next(pictures)
      yield mrope.places(grid)
      place += grid.tokens
    else:
      words = next((n for n, number in enumerate(ids[place:]) if number == holder), len(ids) - place)
      yield words
      place += words


def _urls(messages: Sequence[Message]) -> list[str]:
  contents = [message['content'] for message in messages if not isinstance(message['content'], str)]
  return [part['image_url']['url'] for content in contents for part in content if part['type'] == 'image_url']


def _as_text(message: Message, marks: Sequence[str]) -> Message:
  """The message with what stands for a picture in the place of each image. Texts cannot forge one."""

  def plain(text: str) -> str:
    for mark in marks:
      text = text.replace(mark, ' ')
    return text

  content = message['content']
  if isinstance(content, str):
    return {**message, 'content': plain(content)}
  return {**message, 'content': ''.join(plain(p['text']) if p['type'] == 'text' else ''.join(marks) for p in content)}


def _decoded(url: str) -> np.ndarray:
  """uint8[H, W, 3] of an image within its address; raises Unreadable for any other."""
  found = _DATA.fullmatch(url)
  if found is None:
    raise Unreadable(f'an image at {url[:60]!r}: only images within their address (data:image/…;base64) are seen here')
  try:
    image = cv2.imdecode(np.frombuffer(base64.b64decode(found[1], validate=True), np.uint8), cv2.IMREAD_COLOR)
  except (ValueError, cv2.error) as error:
    raise Unreadable(f'an image that cannot be read ({error})') from error
  if image is None:
    raise Unreadable('an image that cannot be read')
  return np.ascontiguousarray(image[..., ::-1])
