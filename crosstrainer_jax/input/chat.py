"""What stands around a prompt and its answer: a tokenizer's chat template, or nothing but its begin and end tokens."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from crosstrainer_jax.input.tokenizer import Words

# Marks where the content stands in a rendered template. Templates strip spaces around it, and nothing else.
_CONTENT, _ANSWER = '[[content]]', '[[answer]]'
# Some templates ask for today's date: a prompt that changes every day would make no run the same as another. This is
# the date that Llama 3.1's own template falls back to.
_FIXED = {'date_string': '26 Jul 2024', 'enable_thinking': False}


@dataclasses.dataclass(frozen=True)
class Layout:
  """Token ids around the text.

  Attributes:
    before: what stands before a prompt.
    after: what stands between a prompt and its answer.
    space: text that an answer begins with.
    close: what ends an answer; it is learned.
    ends: tokens at which generation stops.
  """

  before: tuple[int, ...]
  after: tuple[int, ...]
  space: str
  close: tuple[int, ...]
  ends: tuple[int, ...]


def layout_of(words: Words, directory: str | Path | None = None) -> Layout:
  """The layout that a tokenizer asks for: its chat template where it has one.

  Args:
    directory: where `generation_config.json` may name more tokens that end a text.

  Raises:
    ValueError: the tokenizer has no end token, or its template cannot be used; the message says why.
  """
  if words.eos_token_id is None:
    raise ValueError('the tokenizer has no end token (eos_token in tokenizer_config.json)')
  further = _generation_ends(directory)
  if not words.chat_template:
    begin = () if words.bos_token_id is None else (words.bos_token_id,)
    ends = _unique([words.eos_token_id, *further])
    return Layout(begin, (), ' ', (words.eos_token_id,), ends)
  asked = [{'role': 'user', 'content': _CONTENT}]
  answered = [*asked, {'role': 'assistant', 'content': _ANSWER}]
  prompt = words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **_FIXED)
  whole = words.apply_chat_template(answered, tokenize=False, add_generation_prompt=False, **_FIXED)
  if prompt.count(_CONTENT) != 1 or whole.count(_ANSWER) != 1:
    raise ValueError('the chat template of the tokenizer does not show the content of a message exactly once')
  before, after = prompt.split(_CONTENT)
  closing = _ids(words, whole.split(_ANSWER)[1])
  if not closing or closing[0] not in words.all_special_ids:
    raise ValueError('the chat template of the tokenizer does not end an answer with a special token')
  ends = _unique([closing[0], words.eos_token_id, *further])
  return Layout(_ids(words, before), _ids(words, after), '', closing[:1], ends)


def _ids(words: Words, text: str) -> tuple[int, ...]:
  return tuple(words.encode(text, add_special_tokens=False, split_special_tokens=False))


def _generation_ends(directory: str | Path | None) -> list[int]:
  path = Path(directory) / 'generation_config.json' if directory is not None else None
  if path is None or not path.is_file():
    return []
  ends = json.loads(path.read_text()).get('eos_token_id')
  return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _unique(ids: Sequence[int]) -> tuple[int, ...]:
  return tuple(dict.fromkeys(ids))
