"""Which clips of a library to watch, for the segments of a video that nobody has seen before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.baselines.retrieval import Retriever, Setting, ValidTokens
from crosstrainer_jax.inference.suggestion import Suggestion
from crosstrainer_jax.inference.trained import read_trained
from crosstrainer_jax.inference.window_features import SeenWindow, WindowEncoder
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.retrieval import library, rows
from crosstrainer_jax.retrieval.index import Index
from crosstrainer_jax.retrieval.library import LibraryClip
from crosstrainer_jax.retrieval.material import PaddedFeatures, open_part
from crosstrainer_jax.retrieval.reranker import Learner, Reranker


class Adviser:
  """A finished run of `retrieve`, ready to be asked: the towers find candidates, the re-ranker orders them.

  Args:
    workdir: of the run. Without a trained re-ranker in it the order is that of the towers.
    encoder_weights: where the weights of f_v lie now, if elsewhere.

  Raises:
    FileNotFoundError: the run is not finished, or its library is gone.
    ValueError: something there does not fit; the message says what.
  """

  def __init__(self, workdir: str | Path, encoder_weights: str = ''):
    place = as_path(workdir)
    self._clips, self._vectors = library.read(place)
    self._model = model = read_trained(place, encoder_weights=encoder_weights)
    config, card = model.config, model.card
    directory = as_path(model.environment.get('library', ''))
    if not (directory / 'dataset_info.json').is_file():
      raise FileNotFoundError(f'{directory}: the library of {place} is no longer there')
    part = open_part(config, directory, model.encoder, model.mesh)
    if part.source.fingerprint != model.environment['library_fingerprint']:
      raise ValueError(f'{directory}: the library has changed since {place} was trained: run retrieve again')
    clips, each = part.clips, model.encoder.each
    for clip in clips:
      missing = [(0, wanted - there) for wanted, there in zip((card.views, card.frames), clip.frame_times.shape,
                                                              strict=True)]  # fmt: skip
      clip.frame_times = np.pad(clip.frame_times, missing, constant_values=np.nan)
    setting = Setting(
      place, clips, list(range(len(clips))), [], PaddedFeatures((part.cache,), (0,), (card.views, card.seconds * each)),
      ValidTokens(clips, model.text, card.seconds), model.text, model.mesh, config,
    )  # fmt: skip
    self._towers = Retriever(rows.setting_of(setting, rows.WEAK), rows.WEAK, [])
    self._towers.load()
    self._reranker: Reranker | None = None
    own = rows.setting_of(setting, rows.RERANKED)
    if (own.directory / 'reranker' / 'done.json').is_file():
      self._reranker = Reranker(own, rows.RERANKED)
      self._reranker.load()
    # Places of each sport's clips in the library, and what is searched among them.
    self._indices: dict[str, tuple[np.ndarray, Index]] = {}
    self._windows = WindowEncoder(model, model.encoder)

  @property
  def sports(self) -> list[str]:
    """Of the library."""
    return sorted({clip.sport for clip in self._clips})

  def advise(
    self,
    paths: Sequence[Path],
    spans: Sequence[tuple[float, float]],
    sport: str,
    attributes: Sequence[Sequence[str]],
    count: int = 3,
    progress: Callable[[int], None] = lambda _: None,
  ) -> list[list[Suggestion]]:
    """The `count` best clips for each segment, best first, no two of the same words; none where nothing is seen.

    Args:
      paths: the views of a video.
      spans: begin and end of each segment in seconds, in order.
      sport: candidates are of it, where the library has it.
      attributes: of each segment, what is to be improved: a reason that is given, and no input of the models.
      progress: told of each segment that is done.
    """
    found: list[list[Suggestion]] = []
    windows = self._windows.read(paths, spans, {'decode': 0.0, 'encode': 0.0})
    for window, named in zip(windows, attributes, strict=True):
      found.append(self._best(window, sport, named, count) if window.valid.any() else [])
      progress(1)
    return found

  def _best(self, window: SeenWindow, sport: str, named: Sequence[str], count: int) -> list[Suggestion]:
    places, index = self._index(sport)
    vector = self._towers.vectors_of(window.features[None], window.valid[None])
    # Without a re-ranker as well, since some say the same.
    most = self._model.config.rerank.top
    similar, numbers = index.search(vector, min(most, index.size))
    candidates, similarity = places[numbers[0]], similar[0]
    order, odds = np.arange(len(candidates)), None
    if self._reranker is not None:
      learner = Learner(window.features, window.valid, sport)
      odds = self._reranker.scores([learner], [candidates.tolist()])[0]
      order = np.argsort(-odds, kind='stable')
    found: dict[str, Suggestion] = {}
    for n in order:
      clip = self._clips[candidates[n]]
      # The same words again, of another video, would be no second piece of advice.
      if len(found) < count and clip.narration not in found:
        relevance = None if odds is None else float(1 / (1 + np.exp(-np.float64(odds[n]))))
        found[clip.narration] = _suggestion(clip, named, float(similarity[n]), relevance)
    return list(found.values())

  def _index(self, sport: str) -> tuple[np.ndarray, Index]:
    known = sport if sport in self.sports else ''
    if known not in self._indices:
      places = np.array([n for n, clip in enumerate(self._clips) if clip.sport == known or not known])
      self._indices[known] = places, Index(np.asarray(self._vectors[places]))
    return self._indices[known]


def _suggestion(clip: LibraryClip, named: Sequence[str], similarity: float, relevance: float | None) -> Suggestion:
  shared = tuple(name for name in named if name in clip.attributes)
  return Suggestion(
    clip.clip_id, clip.url, clip.start, clip.end, clip.narration, clip.execution, shared, similarity, relevance
  )
