"""What stands around a prompt and its answer: a tokenizer's chat template, or nothing but its begin and end tokens."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from crosstrainer_jax.input.tokenizer import Words

# Mark where the content stands in a rendered template, which strips spaces around it and nothing else. There are two
# of each, which begin and end differently: the tokens that both renderings share are those of the template.
_CONTENTS, _ANSWERS = ('[[content]]', '((text))'), ('[[answer]]', '((reply))')
# Some templates ask for today's date: a prompt that changes every day would make no run the same as another. This is
# the date that Llama 3.1's own template falls back to.
FIXED = {'date_string': '26 Jul 2024', 'enable_thinking': False}


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
    return Layout(begin, (), _space(words, f'. {_ANSWERS[0]}'), (words.eos_token_id,), ends)
  prompts = [_rendered(words, content) for content in _CONTENTS]
  wholes = [_rendered(words, _CONTENTS[0], answer) for answer in _ANSWERS]
  for text, content in zip((*prompts, *wholes), (*_CONTENTS, *_ANSWERS), strict=True):
    if text.count(content) != 1:
      raise ValueError('the chat template of the tokenizer does not show the content of a message exactly once')
  (before, after), (_, closing) = _shared(words, prompts), _shared(words, wholes)
  length = next((place for place, token in enumerate(closing) if token in words.all_special_ids), None)
  # Llama 2's answers end with a space and the end token. The space is learned too, as the model has seen it.
  if length is None or words.decode(list(closing[:length])).strip():
    raise ValueError('the chat template of the tokenizer does not end an answer with a special token')
  ends = _unique([closing[length], words.eos_token_id, *further])
  return Layout(before, after, _space(words, wholes[0]), closing[: length + 1], ends)


def _rendered(words: Words, content: str, answer: str = '') -> str:
  """A conversation by the template: a prompt that is to be answered, or was."""
  messages = [{'role': 'user', 'content': content}]
  if answer:
    messages.append({'role': 'assistant', 'content': answer})
  return words.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answer, **FIXED)


def _shared(words: Words, texts: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """The tokens that two texts begin with, and those that they end with.

  Each text is encoded as a whole: alone, a piece of it may get a space that it does not have within (Llama 2).
  """
  one, other = (_ids(words, text) for text in texts)
  return _beginning(one, other), _beginning(one[::-1], other[::-1])[::-1]


def _beginning(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
  return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _space(words: Words, whole: str) -> str:
  """What an answer begins with to have the same tokens alone as in `whole`: a space, or nothing."""
  there, alone = _ids(words, whole), _ids(words, f' {_ANSWERS[0]}')
  places = range(len(there) - len(alone) + 1)
  return ' ' if any(there[place : place + len(alone)] == alone for place in places) else ''


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
