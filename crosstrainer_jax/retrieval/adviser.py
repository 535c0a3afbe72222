"""Which clips of a library to watch, for the segments of a video that nobody has seen before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.baselines.retrieval import Retriever, Setting, ValidTokens
from crosstrainer_jax.inference.suggestion import Suggestion
from crosstrainer_jax.inference.trained import BATCH, read_trained
from crosstrainer_jax.inference.window_features import SeenWindow, WindowEncoder
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.retrieval import library, rows
from crosstrainer_jax.retrieval.index import Index
from crosstrainer_jax.retrieval.library import LibraryClip
from crosstrainer_jax.retrieval.material import PaddedFeatures, open_part
from crosstrainer_jax.retrieval.reranker import Learner, Reranker


class Adviser:
  """A finished run of `retrieve`, ready to be asked: the towers find candidates, the re-ranker orders them.

  Args:
    workdir: of the run. Where it was made without the row of the re-ranker the order is that of the towers.
    encoder_weights, decoder_weights: where the weights lie now that it was trained from, if elsewhere.

  Raises:
    FileNotFoundError: the run is not finished, or its library is gone.
    ValueError: something there does not fit; the message says what.
  """

  def __init__(self, workdir: str | Path, encoder_weights: str = '', decoder_weights: str = ''):
    place = as_path(workdir)
    self._clips, self._vectors = library.read(place)
    self._model = model = read_trained(place, None, encoder_weights, decoder_weights, '--library_')
    config, card = model.config, model.card
    directory = as_path(model.environment.get('library', ''))
    if not (directory / 'dataset_info.json').is_file():
      raise FileNotFoundError(f'{directory}: the library of {place} is no longer there')
    source = ClipSource(directory)
    if source.fingerprint != model.environment['library_fingerprint']:
      raise ValueError(f'{directory}: the library has changed since {place} was trained: run retrieve again')
    part = open_part(config, source, model.encoder, model.mesh)
    clips, each = part.clips, model.encoder.each
    for clip in clips:
      missing = [(0, wanted - there) for wanted, there in zip((card.views, card.frames), clip.frame_times.shape,
                                                              strict=True)]  # fmt: skip
      clip.frame_times = np.pad(clip.frame_times, missing, constant_values=np.nan)
    setting = Setting(
      place, clips, list(range(len(clips))), [], PaddedFeatures((part.cache,), (0,), (card.views, card.seconds * each)),
      ValidTokens(clips, model.text, card.seconds), model.text, model.mesh, config, seconds=card.seconds,
    )  # fmt: skip
    # Where the clips of the library are in the dataset.
    numbers = {clip.clip_id: number for number, clip in enumerate(clips)}
    self._numbers = np.array([numbers[clip.clip_id] for clip in self._clips])
    self._towers = Retriever(rows.setting_of(setting, rows.WEAK), rows.WEAK, [])
    self._towers.load()
    self._reranker: Reranker | None = None
    if rows.RERANKED in config.retrieve.rows:
      self._reranker = Reranker(rows.setting_of(setting, rows.RERANKED), rows.RERANKED)
      self._reranker.load()
    # Places of each sport's clips in the library, and what is searched among them.
    self._indices: dict[str, tuple[np.ndarray, Index]] = {}
    self._windows = WindowEncoder(model, model.encoder)

  @property
  def sports(self) -> list[str]:
    """Of the library."""
    return sorted({clip.sport for clip in self._clips})

  def warnings(self, views: int, spans: Sequence[tuple[float, float]], sport: str) -> list[str]:
    """What the reader should know before following the advice; arguments as in `advise`."""
    card, found = self._model.card, []
    if card.simulated:
      found.append('the clips to watch were chosen by a model that was trained on simulated athletes alone')
    if sport not in self.sports:
      found.append(f'the library has no clips of {sport!r} but of {", ".join(self.sports)}: these are of any sport')
    if views > card.views:
      found.append(f'of {views} views the first {card.views} were looked at for the clips to watch')
    seconds = card.frames / float(self._model.encoder.config.fps)
    longest = max((end - begin for begin, end in spans), default=0.0)
    if longest > seconds + 1e-3:
      found.append(f'of each segment the first {seconds:g} of {longest:g} s were looked at for the clips to watch')
    return found

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
      paths: the views of a video; the model looks at as many as it was trained with.
      spans: begin and end of each segment in seconds, in order.
      sport: candidates are of it, where the library has it.
      attributes: of each segment, what is to be improved: a reason that is given, and no input of the models.
      progress: told how many segments more are done.
    """
    found: list[list[Suggestion]] = []
    paths = paths[: self._model.card.views]
    windows = self._windows.read(paths, spans, {'decode': 0.0, 'encode': 0.0}) if spans else iter(())
    for start in range(0, len(spans), BATCH):
      some = list(itertools.islice(windows, BATCH))
      seen = [window for window in some if window.valid.any()]
      chosen = iter(self._best(seen, sport, count)) if seen else iter(())
      for window, named in zip(some, attributes[start : start + BATCH], strict=True):
        found.append([_suggestion(*one, named) for one in next(chosen)] if window.valid.any() else [])
      progress(len(some))
    return found

  def _best(
    self, windows: Sequence[SeenWindow], sport: str, count: int
  ) -> list[list[tuple[LibraryClip, float, float | None]]]:
    """Of each window the clips, with their similarity and relevance."""
    places, index = self._index(sport)
    features, valid = (np.stack([getattr(window, name) for window in windows]) for name in ('features', 'valid'))
    # Without a re-ranker as many, since some say the same.
    similar, numbers = index.search(
      self._towers.vectors_of(features, valid), min(self._model.config.rerank.top, index.size)
    )
    candidates = places[numbers]
    odds: Sequence[np.ndarray | None] = [None] * len(windows)
    if self._reranker is not None:
      learners = [Learner(window.features, window.valid, sport) for window in windows]
      odds = self._reranker.scores(learners, [self._numbers[row].tolist() for row in candidates])
    found = []
    for row, cosines, given in zip(candidates, similar, odds, strict=True):
      best: dict[str, tuple[LibraryClip, float, float | None]] = {}
      for n in np.arange(len(row)) if given is None else np.argsort(-given, kind='stable'):
        clip = self._clips[row[n]]
        # The same words again, of another video, would be no second piece of advice.
        if len(best) < count and clip.narration not in best:
          relevance = None if given is None else float(1 / (1 + np.exp(-np.float64(given[n]))))
          best[clip.narration] = clip, float(cosines[n]), relevance
      found.append(list(best.values()))
    return found

  def _index(self, sport: str) -> tuple[np.ndarray, Index]:
    known = sport if sport in self.sports else ''
    if known not in self._indices:
      places = np.array([n for n, clip in enumerate(self._clips) if clip.sport == known or not known])
      self._indices[known] = places, Index(np.asarray(self._vectors[places]))
    return self._indices[known]


def _suggestion(clip: LibraryClip, similarity: float, relevance: float | None, named: Sequence[str]) -> Suggestion:
  shared = tuple(name for name in named if name in clip.attributes)
  return Suggestion(
    clip.clip_id, clip.url, clip.start, clip.end, clip.narration, clip.execution, shared, similarity, relevance
  )
