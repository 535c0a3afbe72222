"""Which words of the expert a run learns and is measured by: `config.data.text`.

`raw` is the commentary as it was transcribed; `condensed` one sentence of each comment, made by a language model
(`discover --condense`); `expertaf` the sentences that ExpertAF released, which are those of the dataset of that name.
The paper does not say which it used, and scores of different texts are not comparable: every row names its own.
"""

from collections.abc import Sequence
from typing import Any

from crosstrainer_jax.discovery.condense import read_condensed
from crosstrainer_jax.discovery.journal import text_sha
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
