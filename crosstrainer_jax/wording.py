"""Which words of the expert a run learns and is measured by: `config.data.text` and `config.discovery.canonical`.

`raw` is the commentary as it was transcribed; `condensed` one sentence of each comment, made by a language model
(`discover --condense`); `expertaf` the sentences that ExpertAF released, which are those of the dataset of that name.
The paper does not say which it used, and scores of different texts are not comparable: every row names its own.

Attributes are learnt as discovery found them, as in the paper, or under the names of a file of `discover --canonical`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.condense import read_condensed
from crosstrainer_jax.discovery.journal import text_sha
from crosstrainer_jax.inference.canonical import read_canonical
from crosstrainer_jax.input.source import ClipInfo

TEXTS = ('raw', 'condensed', 'expertaf')


def put_words(clips: Sequence[ClipInfo], data: Any) -> int:
  """Puts the text that `data`, the config's group, asks for into the clips, in their place.

  Returns:
    How many comments have no sentence in the file: they are emptied, so that no other text stands in for one.

  Raises:
    FileNotFoundError, ValueError: no such file, lines that cannot be read, or sentences of other comments.
  """
  if data.text != 'condensed':
    return 0
  found = read_condensed(data.condensed)
  missing = 0
  for clip in clips:
    if not clip.commentary.strip():
      continue
    one = found.get(clip.clip_id)
    if one is None:
      clip.commentary = ''
      missing += 1
    elif one.text_sha != text_sha(clip.commentary):
      raise ValueError(
        f'{data.condensed}: the sentence of clip {clip.clip_id!r} was made from another comment; make them again: '
        f'python -m crosstrainer_jax.discover --dataset {data.dataset} --condense'
      )
    else:
      clip.commentary = one.text
  return missing


def canonical_names(discovery: Any) -> dict[str, str]:
  """Raw → canonical phrase, of the file that `discovery`, the config's group, names; empty where it names none.

  Raises:
    FileNotFoundError, ValueError: no such file, or no map of phrases.
  """
  return read_canonical(discovery.canonical) if discovery.canonical else {}


def fingerprint_of(discovery: Any) -> str:
  """Of the canonical names: a run with others is another run."""
  return text_sha(json.dumps(canonical_names(discovery), sort_keys=True))


def renamed(phrases: Iterable[str], names: Mapping[str, str]) -> list[str]:
  """Each phrase under its name, once; one without a name stands for itself."""
  return list(dict.fromkeys(names.get(phrase, phrase) for phrase in phrases))


def put_attributes(clips: Sequence[ClipInfo], attributes: Mapping[str, Attributes], discovery: Any) -> None:
  """Puts the attributes of each clip id into the clips, in their place, under the names that `discovery` asks for."""
  names = canonical_names(discovery)
  for clip in clips:
    found = attributes.get(clip.clip_id)
    if found is not None:
      clip.incorrect = renamed(found.incorrect, names)
      # two phrases may get one name, and what is wrong somewhere is not shown well
      clip.correct = [phrase for phrase in renamed(found.correct, names) if phrase not in clip.incorrect]
