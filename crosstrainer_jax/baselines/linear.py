"""Linear classifier on v: one logistic regression per frequent attribute, on frozen features.

It shows what can be read off the features without a language model, over a closed list of attributes. Its feedback is
the training commentary whose attributes fit best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from crosstrainer_jax.baselines.nearest_neighbour import unit
from crosstrainer_jax.baselines.pooling import checked, needs_clips
from crosstrainer_jax.baselines.prediction import Prediction, Reference

PENALTIES = (0.01, 0.1)  # inverse strength C of the L2 penalty; the better one on the validation part is taken


class LinearClassifier:
  """One-vs-rest logistic regression with a threshold per attribute.

  The validation part is a fifth of the training participants: it chooses C and each attribute's threshold (best F1),
  then the regressions are fitted again on all training clips. An attribute is taken when `min_count` clips have it,
  at most `max_attributes` of them.
  """

  def __init__(self, seed: int = 0, max_attributes: int = 24, min_count: int = 10):
    self.seed = seed
    self.max_attributes = max_attributes
    self.min_count = min_count

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self:
    needs_clips(train, 'linear classifier on v')
    features = checked(features, train)
    self.scaler = StandardScaler().fit(features)
    scaled = self.scaler.transform(features)
    # The products are small: on a busy machine several BLAS threads wait for each other, and take 20 times as long.
    with threadpool_limits(1, 'blas'):
      self._fit_attributes(train, scaled)
      self._fit_levels(train, scaled)
    self._fit_feedback(train, scaled)
    return self

  def _fit_attributes(self, train: Sequence[Reference], scaled: np.ndarray) -> None:
    part, held = validation_split(train, self.seed)
    counts = Counter(name for clip in train for name in set(clip.attributes))
    frequent = [name for name, count in counts.most_common(self.max_attributes) if count >= self.min_count]
    labels = multi_hot(train, frequent)
    both = (labels[part].any(axis=0)) & (~labels[part].all(axis=0))
    self.vocabulary = [name for name, usable in zip(frequent, both, strict=True) if usable]
    labels = labels[:, both]
    if self.vocabulary:
      trials = [probabilities(regressions(scaled[part], labels[part], c), scaled[held]) for c in PENALTIES]
      chosen = [thresholds(trial, labels[held]) for trial in trials]
      fits = [pooled_f1(trial >= cut, labels[held]) for trial, cut in zip(trials, chosen, strict=True)]
      best = int(np.argmax(fits))
      self.thresholds = chosen[best]
      self.attribute_models = regressions(scaled, labels, PENALTIES[best])

  def _fit_levels(self, train: Sequence[Reference], scaled: np.ndarray) -> None:
    levels = np.array([clip.level for clip in train])
    known = levels >= 0
    self.only_level = int(levels[known][0]) if known.any() else None
    self.level_model: LogisticRegression | None = None
    if len(set(levels[known].tolist())) > 1:
      self.level_model = LogisticRegression(C=PENALTIES[0], max_iter=1000).fit(scaled[known], levels[known])

  def _fit_feedback(self, train: Sequence[Reference], scaled: np.ndarray) -> None:
    spoken = [i for i, clip in enumerate(train) if clip.commentary]
    self.commentary = [train[i].commentary for i in spoken]
    self.commentary_labels = multi_hot([train[i] for i in spoken], self.vocabulary)
    self.commentary_sizes = np.array([len(set(train[i].attributes)) for i in spoken])
    self.commentary_directions = unit(scaled[spoken])

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    if not references:
      return []
    scaled = self.scaler.transform(checked(features, references))
    chances, named = np.zeros((len(scaled), 0)), np.zeros((len(scaled), 0), bool)
    if self.vocabulary:
      chances = probabilities(self.attribute_models, scaled)
      named = chances >= self.thresholds
    levels: list[int | None] = [self.only_level] * len(scaled)
    if self.level_model is not None:
      levels = [int(level) for level in self.level_model.predict(scaled)]
    feedback = self._best_commentary(named, scaled)
    answers = []
    for i, reference in enumerate(references):
      order = np.argsort(-chances[i], kind='stable')  # the surest attribute first
      attributes = [self.vocabulary[j] for j in order if named[i, j]]
      scores = {self.vocabulary[j]: float(chances[i, j]) for j in order}
      answers.append(reference.answer(attributes, feedback[i], levels[i], scores))
    return answers

  def _best_commentary(self, named: np.ndarray, scaled: np.ndarray) -> list[str | None]:
    """Highest Jaccard index of the attribute sets; ties go to the clip with the most similar features."""
    if not self.commentary:
      return [None] * len(named)
    shared = named.astype(np.float32) @ self.commentary_labels.astype(np.float32).T
    union = named.sum(axis=1, keepdims=True) + self.commentary_sizes - shared
    jaccard = np.where(union > 0, shared / np.maximum(union, 1), 1)
    cosine = unit(scaled) @ self.commentary_directions.T
    ties = jaccard >= jaccard.max(axis=1, keepdims=True) - 1e-6
    best = np.argmax(np.where(ties, cosine, -np.inf), axis=1)
    return [self.commentary[i] for i in best]


def validation_split(train: Sequence[Reference], seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Indices (fit, validation): a fifth of the participants, or of the clips when there is but one participant."""
  groups = [clip.participant for clip in train]
  if len(set(groups)) < 2:
    groups = [clip.clip_id for clip in train]
  if len(set(groups)) < 2:
    return np.arange(len(train)), np.arange(len(train))
  splitter = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=seed)
  return next(splitter.split(np.zeros(len(train)), groups=groups))


def multi_hot(clips: Sequence[Reference], vocabulary: Sequence[str]) -> np.ndarray:
  """bool[N, A]: which clip has which attribute."""
  return np.array([[name in clip.attributes for name in vocabulary] for clip in clips], bool).reshape(
    len(clips), len(vocabulary)
  )


def regressions(features: np.ndarray, labels: np.ndarray, c: float) -> list[LogisticRegression]:
  return [LogisticRegression(C=c, max_iter=1000).fit(features, label) for label in labels.T]


def probabilities(models: Sequence[LogisticRegression], features: np.ndarray) -> np.ndarray:
  """float64[N, A]."""
  return np.stack([model.predict_proba(features)[:, 1] for model in models], axis=1)


def thresholds(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """float64[A]: the cut with the best F1 per attribute; one that the validation part lacks gets the pooled cut."""
  pooled = best_cut(chances.ravel(), labels.ravel())
  cuts = [best_cut(chances[:, a], labels[:, a]) if labels[:, a].any() else pooled for a in range(labels.shape[1])]
  return np.array(cuts)


def best_cut(chances: np.ndarray, labels: np.ndarray) -> float:
  """The probability at and above which to say yes, by F1 over `labels`; 0.5 when no label is true."""
  if not labels.any():
    return 0.5
  order = np.argsort(-chances, kind='stable')
  hits = np.cumsum(labels[order])
  f1 = 2 * hits / (np.arange(1, len(order) + 1) + labels.sum())
  f1[:-1][np.diff(chances[order]) == 0] = -1  # a cut takes all clips of one probability, or none
  return float(chances[order[int(np.argmax(f1))]])


def pooled_f1(named: np.ndarray, labels: np.ndarray) -> float:
  return float(2 * (named & labels).sum() / max(named.sum() + labels.sum(), 1))
