"""How texts are read where they are scored: above all feedback → attributes, by what read the commentary (section 5).

Rows that generate no attributes get theirs so. The lexicon reads a text when it is asked; a language model is asked for
all texts at once, and its answers are kept like those of discovery.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import ml_collections

from crosstrainer_jax import backends, datasets, wording
from crosstrainer_jax.discovery import lexicon
from crosstrainer_jax.discovery.backend import Attributes, Discoverer
from crosstrainer_jax.discovery.language import LanguageDiscoverer
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.evaluation import bert_score, scores
from crosstrainer_jax.training.telemetry import Progress, say

# In the place of a sport's name in the instruction: a text is read whatever it is about.
_ANY_SPORT = 'sports'


class Extractor:
  """Reads texts with the backend of discovery of a run's config, which is opened when there is something to read.

  Raises:
    FileNotFoundError, ValueError: no file of the canonical names that the config asks for; later, a backend that cannot
      be opened, such as a server without its key.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    self._settings = config.discovery
    self._names = wording.canonical_names(config.discovery)
    self._known: dict[str, list[str] | None] = {}

  @functools.cached_property
  def _discoverer(self) -> Discoverer:
    return backends.create(self._settings.backend, backends.ModelSettings.of(self._settings))

  def _incorrect(self, found: Attributes) -> list[str]:
    return wording.renamed(found.incorrect, self._names)

  def __call__(self, text: str) -> list[str] | None:
    """Attributes that `text` calls incorrect; None where a language model gave no answer that can be read."""
    if text not in self._known:
      try:
        self._known[text] = self._incorrect(self._discoverer.discover(text, _ANY_SPORT))
      except Unreadable:
        self._known[text] = None
    return self._known[text]

  def prepare(self, texts: Iterable[str]) -> None:
    """Asks a language model for all texts that are not known, several at a time; says how many it could not answer."""
    new = [text for text in dict.fromkeys(texts) if text.strip() and text not in self._known]
    if not new or not isinstance(self._discoverer, LanguageDiscoverer):
      return
    progress = Progress('attributes of feedback', len(new), unit='text')
    try:
      for number, found in self._discoverer.discover_many([(text, _ANY_SPORT) for text in new]):
        self._known[new[number]] = None if isinstance(found, Unreadable) else self._incorrect(found)
        progress.update(1)
    finally:
      progress.close()
    unread = sum(self._known[text] is None for text in new)
    if unread:
      say(f'  {unread} of {len(new)} texts have no readable answer, which counts as wrong')


def reading_of(
  config: ml_collections.ConfigDict, clips: Sequence[datasets.Named], extract: Extractor | None = None
) -> scores.Reading:
  """How the texts of a run are read where they are scored.

  Args:
    clips: tell the sports and skills, whose names the masked scores hide.
    extract: one that has read some of the texts already.
  """
  settings = config.eval
  bert = bert_score.opened(settings.bert, settings.bert_baseline) if settings.bert else None
  nouns = sorted(datasets.nouns(config.data, clips))
  reader = extract or Extractor(config)
  return scores.Reading(reader, lexicon.name_concept, nouns, bert, settings.matching, settings.empty)
