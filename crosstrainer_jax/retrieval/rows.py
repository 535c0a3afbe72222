"""The rows of the comparison: each ranks candidates of a library for learners' clips, by scores float[N, M].

| row | knows of the learner's clip |
|---|---|
| random | nothing |
| sport and skill | what it is called: the same skill first, then the words of the narration |
| visual nearest neighbour | its features, compared with those of candidates |
| two towers, zero-shot | itself, in a space that was trained on how-to clips alone |
| two towers, weak pairs | itself, in a space that was trained on weak pairs |
| re-ranked | itself, beside each of the first candidates of the row above, in a model that was trained on weak pairs |
| re-ranked without the learner | nothing but that those were the first: the same model with its clip hidden |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from crosstrainer_jax.baselines.retrieval import Retriever, Setting
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.retrieval.material import Material
from crosstrainer_jax.retrieval.relevance import Pairs
from crosstrainer_jax.retrieval.reranker import Reranker
from crosstrainer_jax.retrieval.weak import Spoken, Triple, relevant_to
from crosstrainer_jax.run_layout import row_folder
from crosstrainer_jax.training.contrastive import any_right_text, own_text
from crosstrainer_jax.training.telemetry import MetricWriter, timed

RANDOM, NAMES, VISUAL = 'random', 'sport and skill', 'visual nearest neighbour'
ZERO_SHOT, WEAK = 'two towers, zero-shot', 'two towers, weak pairs'
RERANKED, BLIND = 're-ranked', 're-ranked without the learner'
ROWS = (RANDOM, NAMES, VISUAL, ZERO_SHOT, WEAK, RERANKED, BLIND)


def by_lot(queries: Sequence[int], candidates: Sequence[int], seed: int) -> np.ndarray:
  """float64[N, M] at random."""
  return np.random.default_rng([seed, 77]).random((len(queries), len(candidates)))


def by_names(queries: Sequence[ClipInfo], candidates: Sequence[ClipInfo]) -> np.ndarray:
  """float64[N, M]: 1 for the same skill, and the cosine of TF-IDF between its name and the narration."""
  vectorizer = TfidfVectorizer(sublinear_tf=True)
  narrations = vectorizer.fit_transform([f'{c.sport} {c.skill} {c.commentary}' for c in candidates])
  names = vectorizer.transform([f'{q.sport} {q.skill}' for q in queries])
  same = np.array([[q.skill == c.skill for c in candidates] for q in queries], float)
  return same + (names @ narrations.T).toarray()


def by_looks(material: Material, queries: Sequence[int], candidates: Sequence[int]) -> np.ndarray:
  """float64[N, M]: the cosine of mean features, each dimension scaled by its spread over the candidates."""

  def pooled(indices: Sequence[int]) -> np.ndarray:
    valid = material.setting.valid(indices)
    rows = [
      material.setting.video(index)['features'][mask].astype(np.float64).mean(0)
      for index, mask in zip(indices, valid, strict=True)
    ]
    return np.stack(rows)

  one, other = pooled(queries), pooled(candidates)
  mean, spread = other.mean(0), other.std(0) + 1e-6
  one, other = ((part - mean) / spread for part in (one, other))
  one, other = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (one, other))
  return one @ other.T


def zero_shot(material: Material, writer: MetricWriter | None = None) -> Retriever:
  """Towers trained on the library alone: a clip and its own narration."""
  train = material.library_train
  texts = sorted({material.clips[index].commentary for index in train})
  numbers = {text: number for number, text in enumerate(texts)}
  setting = _setting(material, ZERO_SHOT, train)
  retriever = Retriever(setting, ZERO_SHOT, texts)
  with timed(f'row: {ZERO_SHOT}'):
    retriever.fit(train, [[numbers[material.clips[index].commentary]] for index in train], own_text, writer)
  return retriever


def weak_pairs(
  material: Material, learners: Sequence[Spoken], library: Sequence[Spoken], writer: MetricWriter | None = None
) -> Retriever:
  """Towers trained on learners' clips and the narrations that are right for them by weak labels.

  Args:
    learners: of the training clips of learners.
    library: of the library's training clips.
  """
  numbers = {clip.clip_id: index for index, clip in enumerate(material.clips)}
  texts = sorted({material.clips[numbers[spoken.clip_id]].commentary for spoken in library})
  place = {text: number for number, text in enumerate(texts)}
  narration = [place[material.clips[numbers[spoken.clip_id]].commentary] for spoken in library]
  found = [sorted({narration[n] for n in own}) for own in relevant_to(learners, library)]
  chosen = [(numbers[spoken.clip_id], own) for spoken, own in zip(learners, found, strict=True) if own]
  if not chosen:
    raise ValueError('no learner’s clip has a relevant clip in the library: nothing can be learnt from weak pairs')
  setting = _setting(material, WEAK, material.setting.train)
  retriever = Retriever(setting, WEAK, texts)
  with timed(f'row: {WEAK}'):
    retriever.fit([clip for clip, _ in chosen], [own for _, own in chosen], any_right_text, writer)
  return retriever


def by_towers(
  material: Material, retriever: Retriever, queries: Sequence[int], candidates: Sequence[int]
) -> np.ndarray:
  """float32[N, M]: cosines of learners' clips and what is said in the candidates."""
  narrations = [material.clips[index].commentary for index in candidates]
  return retriever.clip_vectors(queries) @ retriever.text_vectors(narrations).T


def reranker(
  material: Material,
  row: str,
  triples: Sequence[Triple],
  learners: Sequence[Spoken],
  writer: MetricWriter | None = None,
) -> Reranker:
  """The model of `RERANKED` or `BLIND`, trained on triples of weak supervision.

  Args:
    learners: of the training clips of learners.
  """
  numbers = {clip.clip_id: index for index, clip in enumerate(material.clips)}
  pairs = Pairs(
    np.array([numbers[triple.clip_id] for triple in triples], np.int32),
    np.array([numbers[triple.candidate] for triple in triples], np.int32),
    np.array([triple.relevant for triple in triples]),
    [triple.shared for triple in triples],
  )
  whitens = [*material.setting.train, *material.library_train]
  found = Reranker(_setting(material, row, whitens), row, blind=row == BLIND)
  with timed(f'row: {row}'):
    attributes = {numbers[learner.clip_id]: sorted(learner.attributes) for learner in learners}
    found.fit(pairs, writer, attributes)
  return found


def by_reranker(
  model: Reranker, before: np.ndarray, top: int, queries: Sequence[int], candidates: Sequence[int]
) -> np.ndarray:
  """float64[N, M]: the first `top` of each query in the order of the re-ranker, the others behind, as they were.

  Args:
    before: float[N, M], scores of the first step, -inf for what is no candidate.
  """
  order = np.argsort(-before, axis=1, kind='stable')
  first = [[place for place in row[:top] if np.isfinite(before[query, place])] for query, row in enumerate(order)]
  found = model.scores([model.learner(q) for q in queries], [[candidates[place] for place in row] for row in first])
  # Places in the new order, since scores of the two steps cannot be compared.
  scores = np.empty(before.shape)
  for query, (row, own, given) in enumerate(zip(order, first, found, strict=True)):
    behind = row[len(own) :]
    new = [*np.asarray(own, int)[np.argsort(-given, kind='stable')], *behind]
    scores[query, new] = -np.arange(len(new))
  return scores


def setting_of(setting: Setting, row: str) -> Setting:
  """That of a row, in its own folder."""
  return dataclasses.replace(setting, directory=setting.directory / row_folder(row))


def _setting(material: Material, row: str, train: Sequence[int]) -> Setting:
  return dataclasses.replace(setting_of(material.setting, row), train=list(train))
