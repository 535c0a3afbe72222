"""The rows of the comparison, each two towers: what is said in a clip is told from what is said in others.

| row | trained on |
|---|---|
| untrained | nothing: as initialised, or as pretrained encoders came |
| activity labels | each clip with its sport and skill, as data of activities has them [P] |
| how-to narration | each clip with what the instructor says in it [P] |
"""

from __future__ import annotations

from collections.abc import Callable

from crosstrainer_jax.baselines.retrieval import Retriever, Setting
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.training.contrastive import own_text
from crosstrainer_jax.training.telemetry import MetricWriter, timed

UNTRAINED, LABELS, NARRATION = 'untrained', 'activity labels', 'how-to narration'


def label(clip: ClipInfo) -> str:
  """What data of activities say of a clip."""
  return f'{clip.sport}: {clip.skill}'


def narration(clip: ClipInfo) -> str:
  """What is said in a clip."""
  return clip.commentary


# Row -> the text of a training clip; None trains nothing.
ROWS: dict[str, Callable[[ClipInfo], str] | None] = {UNTRAINED: None, LABELS: label, NARRATION: narration}


def open_row(name: str, setting: Setting, writer: MetricWriter | None = None) -> Retriever:
  """The towers of a row, trained unless that is done.

  Raises:
    ValueError: no such row.
  """
  if name not in ROWS:
    raise ValueError(f'config.represent.rows: no row {name!r}; known: {", ".join(ROWS)}')
  text_of = ROWS[name]
  texts = sorted({(text_of or narration)(setting.clips[index]) for index in setting.train})
  retriever = Retriever(setting, name, texts)
  if text_of is not None:
    numbers = {text: number for number, text in enumerate(texts)}
    right = [[numbers[text_of(setting.clips[index])]] for index in setting.train]
    with timed(f'row: {name}'):
      # Of one video nothing is a negative: a lesson repeats itself.
      retriever.fit(setting.train, right, own_text, writer)
  return retriever
