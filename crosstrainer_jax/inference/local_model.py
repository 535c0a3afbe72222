"""A language model from a directory of the hub, run by our own decoder: `--backend local`.

It answers as a server would, with the chat template of its tokenizer and greedy decoding or sampling. One that sees
images is in `local_vision_model.py`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jinja2
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.discovery.language_model import CUT, STOP, Answer, Message, Question, Sampling, Unreadable
from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.input import chat, examples, tokenizer
from crosstrainer_jax.models import pretrained
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.pretrained import Pretrained
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import hub

# Longer conversations are refused: their cache would take the memory of the weights.
LONGEST = 8192


class Row(NamedTuple):
  """A question as the model reads it.

  Attributes:
    ids: its tokens.
    pictures: uint8[H, W, 3] each, in the order in which their placeholders stand among the tokens.
  """

  ids: list[int]
  pictures: tuple[np.ndarray, ...] = ()


class LocalModel:
  """The model in `directory`, over all devices of this machine; its weights are read when it is first asked.

  Args:
    directory: of the hub's form, or a repository of the hub (owner/name).
    batch: questions that are answered together.

  Raises:
    FileNotFoundError, ValueError: it is not there, or not supported.
  """

  concurrency = 1

  def __init__(self, directory: str | Path, sampling: Sampling | None = None, batch: int = 4):
    if not str(directory):
      raise ValueError('--model is missing: a directory of the hub, or a repository (owner/name)')
    if batch < 1:
      raise ValueError(f'concurrency={batch}: at least one question is answered at a time')
    self.sampling = sampling or Sampling()
    path = hub.locate(directory)
    dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
    settings = {'dtype': dtype, 'param_dtype': dtype, 'attention': 'xla'}
    whole = pretrained.read_config(path)
    # attention within a window is not computed
    longest = min(whole.max_position, whole.sliding_window or LONGEST, LONGEST)
    config = pretrained.read_config(path, lora=None, max_position=longest, **settings)
    self._base = Pretrained(path, config)
    self._mesh = sharding.make_mesh((1, -1, 1), jax.local_devices())
    shards = sharding.data_shards(self._mesh)
    self.group = -(-batch // shards) * shards
    self._words = tokenizer.load_tokenizer(path)
    if not self._words.chat_template:
      raise ValueError(f'{path}: the tokenizer has no chat template: this is no model that follows instructions')
    if len(self._words) > config.vocab_size:
      raise ValueError(f'{path}: {len(self._words)} tokens in the tokenizer, {config.vocab_size} in the model')
    self._layout = chat.layout_of(self._words, path)
    self.name = f'{path.name}@{self._base.fingerprint}'
    self._lock = threading.Lock()

  @functools.cached_property
  def _decoder(self) -> Decoder:
    graph, like = placed(lambda: Decoder(self._base.config, nnx.Rngs(0), self._mesh), self._mesh)
    return nnx.merge(graph, self._base.load(like))

  def complete(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    """See `LanguageModel`; questions with images, and those that are too long, get no answer."""
    found: dict[int, Answer | Unreadable] = {}
    rows: dict[int, Row] = {}
    room = self._base.config.max_position - self.sampling.max_tokens
    for number, question in enumerate(questions):
      try:
        row = self._row(question)
      except Unreadable as error:
        found[number] = error
        continue
      if len(row.ids) > room:
        found[number] = Unreadable(f'the question has {len(row.ids)} tokens, {room} are left for one')
      else:
        rows[number] = row
    numbers = list(rows)
    with self._lock:
      for start in range(0, len(numbers), self.group):
        part = numbers[start : start + self.group]
        written = self._write([rows[number] for number in part])
        found.update((number, self._answer(rows[number].ids, ids)) for number, ids in zip(part, written, strict=True))
    return [found[number] for number in range(len(questions))]

  def stop(self) -> None:
    """See `LanguageModel`; a batch that is under way comes to its end."""

  def _row(self, question: Question) -> Row:
    """A question as the model reads it; raises Unreadable where it cannot."""
    if question.images:
      raise Unreadable('this model sees no images')
    return Row(self._ids(question.messages))

  def _ids(self, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation that is to be answered."""
    template = {'tokenize': False, 'add_generation_prompt': True, **chat.FIXED}
    try:
      try:
        text = self._words.apply_chat_template(list(messages), **template)
      except jinja2.TemplateError:
        # Some know no role `system`: what it says is then said before the question.
        first, second, *rest = messages
        joined = {'role': 'user', 'content': f'{first["content"]}\n\n{second["content"]}'}
        text = self._words.apply_chat_template([joined, *rest], **template)
    except (jinja2.TemplateError, ValueError) as error:
      raise ValueError(f'{self._base.directory}: the chat template refuses the conversation ({error})') from error
    return self._words.encode(text, add_special_tokens=False)

  def _write(self, rows: Sequence[Row]) -> np.ndarray:
    """The continuation of each of at most `group` prompts, int32[rows, max_tokens]."""
    config, sampling = self._base.config, self.sampling
    length = min(examples.bucket(max(len(row.ids) for row in rows)), config.max_position - sampling.max_tokens)
    # whatever is missing of a batch is filled with rows that are no prompt
    tokens, mask = np.zeros((self.group, length), np.int32), np.zeros((self.group, length), bool)
    for number, row in enumerate(rows):
      tokens[number, : len(row.ids)], mask[number, : len(row.ids)] = row.ids, True
    placed: dict[str, Any] = sharding.put_batch({'mask': mask}, self._mesh)
    embeddings, positions = self._embeddings(rows, tokens)
    ends, pad = self._layout.ends, self._words.pad_token_id
    written, _ = generate(
      self._decoder,
      embeddings,
      placed['mask'],
      sampling.max_tokens,
      eos_id=ends,
      pad_id=ends[0] if pad is None else pad,
      temperature=max(sampling.temperature, 0.0),
      key=jax.random.key(sampling.seed),
      banned_ids=tuple(range(len(self._words), config.vocab_size)),
      positions=positions,
    )
    return np.asarray(jax.device_get(written))[: len(rows)]

  def _embeddings(self, rows: Sequence[Row], tokens: np.ndarray) -> tuple[jax.Array, jax.Array | None]:
    """What the decoder is given for `tokens` int32[group, L] of the rows, and its positions where they do not count."""
    placed: Any = sharding.put_batch({'tokens': tokens}, self._mesh)
    return _embed(*nnx.split(self._decoder), placed['tokens']), None

  def _answer(self, asked: Sequence[int], written: np.ndarray) -> Answer:
    places = np.flatnonzero(np.isin(written, self._layout.ends))
    ids = written[: places[0] if len(places) else None].tolist()
    text = self._words.decode(ids, skip_special_tokens=True)
    return Answer(text, STOP if len(places) else CUT, len(asked), len(ids))


def placed(create: Callable[[], nnx.Module], mesh: Mesh) -> tuple[nnx.GraphDef[Any], nnx.State]:
  """The graph of what `create` makes, and its abstract parameters with their places on a mesh."""
  graph, abstract = nnx.split(nnx.eval_shape(create), nnx.Param)
  places = sharding.state_shardings(abstract, mesh)
  return graph, jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract, places
  )


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph: nnx.GraphDef[Decoder], state: nnx.State, tokens: jax.Array) -> jax.Array:
  return nnx.merge(graph, state).embed(jnp.asarray(tokens))
