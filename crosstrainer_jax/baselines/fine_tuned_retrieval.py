"""Fine-tuned retrieval: clips and commentary in one space, and the nearest commentary as the answer (Table 1, -FT).

The paper fine-tunes InternVideo2 contrastively on video and commentary, and retrieves commentary of the training clips;
here the towers stand on the features of the run's frozen encoder. A test clip is compared with the *texts*, since that
is what the loss brings together, and gets the text with the attributes and the level of the first training clip that it
was said of.
"""

from __future__ import annotations

from collections.abc import Sequence

from crosstrainer_jax.baselines.floors import copied
from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.baselines.retrieval import Retriever, Setting
from crosstrainer_jax.training.contrastive import own_text
from crosstrainer_jax.training.telemetry import MetricWriter

NAME = 'fine-tuned retrieval'


def train(setting: Setting, writer: MetricWriter | None = None) -> None:
  """Trains the towers on every training clip and what was said of it, unless that is done."""
  spoken, texts = _texts(setting)
  numbers = {text: number for number, text in enumerate(texts)}
  right = [[numbers[setting.clips[index].commentary]] for index in spoken]
  Retriever(setting, NAME, list(texts)).fit(spoken, right, own_text, writer)


def predict(setting: Setting, clips: Sequence[int], references: Sequence[Reference]) -> list[Prediction]:
  """Answers for `clips`, by index; of the `references` only their identity is read."""
  _, texts = _texts(setting)
  retriever = Retriever(setting, NAME, list(texts))
  retriever.load()
  sources = [Reference.from_clip(setting.clips[index]) for index in texts.values()]
  nearest = retriever.similarities(clips).argmax(1)
  return [copied(sources[place], reference) for place, reference in zip(nearest, references, strict=True)]


def _texts(setting: Setting) -> tuple[list[int], dict[str, int]]:
  """The training clips that were spoken of, and every commentary with the first clip that it was said of."""
  spoken = [index for index in setting.train if setting.clips[index].commentary.strip()]
  texts: dict[str, int] = {}
  for index in spoken:
    texts.setdefault(setting.clips[index].commentary, index)
  return spoken, texts
