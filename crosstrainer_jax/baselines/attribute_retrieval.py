"""Attribute-Retrieval: clips and skill-attributes in one space (paper Table 1a).

The paper trains it contrastively over the correct and the incorrect attributes, retrieves from a closed set, and leaves
the rest open. Here:

- The texts are `incorrect: <attribute>` and `correct: <attribute>`, all that occur in the training clips. A clip has
  several right texts, so the loss has several positives; an update pairs each clip with one of its own, drawn anew.
- What is retrieved are incorrect attributes alone: the share that a clip gives to each of them, a softmax of its scaled
  cosines over all texts, must reach a threshold. That is the one with the best F1, pooled over clips, against the
  attributes discovered for the validation clips (the training clips where nobody validates).
- At most `config.prompt.k` attributes are named, as the prompt of F_a asks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.linear import best_cut
from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.baselines.retrieval import Retriever, Setting
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.training.contrastive import any_right_text
from crosstrainer_jax.training.telemetry import MetricWriter, say

NAME = 'attribute retrieval'
INCORRECT, CORRECT = 'incorrect: ', 'correct: '
THRESHOLD_FILE = 'threshold.json'


def train(setting: Setting, writer: MetricWriter | None = None) -> None:
  """Trains the towers on every training clip with an attribute, and chooses the threshold, unless that is done."""
  texts = _vocabulary(setting)
  if not texts:
    say(f'  {NAME}: no training clip has an attribute, so that there is nothing to retrieve')
    return
  numbers = {text: number for number, text in enumerate(texts)}
  described = [index for index in setting.train if _texts_of(setting.clips[index])]
  right = [[numbers[text] for text in _texts_of(setting.clips[index])] for index in described]
  retriever = Retriever(setting, NAME, texts)
  retriever.fit(described, right, any_right_text, writer)
  path = setting.directory / THRESHOLD_FILE
  if not path.is_file():
    judged = setting.validation or setting.train
    names = _incorrect(texts)
    labels = np.array([[name in setting.clips[i].incorrect for name in names] for i in judged], bool)
    threshold = best_cut(_shares(retriever, texts, judged).ravel(), labels.ravel())
    write_atomically(path, json.dumps({'threshold': threshold, 'clips': len(judged)}))
  say(f'  {NAME}: {len(_incorrect(texts))} incorrect attributes, threshold {_threshold(setting):.3f}')


def predict(setting: Setting, clips: Sequence[int], references: Sequence[Reference]) -> list[Prediction]:
  """Answers for `clips`, by index; of the `references` only their identity is read."""
  texts = _vocabulary(setting)
  retriever = Retriever(setting, NAME, texts)
  retriever.load()
  names, shares, threshold = _incorrect(texts), _shares(retriever, texts, clips), _threshold(setting)
  answers = []
  for row, reference in zip(shares, references, strict=True):
    order = np.argsort(-row, kind='stable')[: setting.config.prompt.k]
    answers.append(reference.answer([names[j] for j in order if row[j] >= threshold]))
  return answers


def _vocabulary(setting: Setting) -> list[str]:
  return sorted({text for index in setting.train for text in _texts_of(setting.clips[index])})


def _texts_of(clip: ClipInfo) -> list[str]:
  return list(
    dict.fromkeys([*(INCORRECT + name for name in clip.incorrect), *(CORRECT + name for name in clip.correct)])
  )


def _incorrect(texts: Sequence[str]) -> list[str]:
  return [text.removeprefix(INCORRECT) for text in texts if text.startswith(INCORRECT)]


def _shares(retriever: Retriever, texts: Sequence[str], clips: Sequence[int]) -> np.ndarray:
  """float32[N, A]: what share of its softmax over all texts a clip gives to each incorrect attribute."""
  logits = retriever.scale * retriever.similarities(clips)
  shares = np.exp(logits - logits.max(1, keepdims=True))
  shares /= shares.sum(1, keepdims=True)
  return shares[:, [text.startswith(INCORRECT) for text in texts]]


def _threshold(setting: Setting) -> float:
  return float(json.loads((setting.directory / THRESHOLD_FILE).read_text())['threshold'])
