"""A clip to watch, as an assessment shows it: where it is, what is said in it, and why it was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Suggestion:
  """One how-to clip for one segment of a learner's video.

  Attributes:
    clip_id: of the library.
    url: of its video; "" where that is not known.
    start, end: seconds of that video.
    narration: what is said in it.
    execution: `correct`, or `incorrect` where it shows the mistake; `none` or "" where nobody knows.
    shared: attributes that the assessment shows and the narration speaks of.
    similarity: cosine of the learner's clip and the narration.
    relevance: from 0 to 1, of yes against no by the re-ranker, or of some attribute against none; None without one. It
      orders clips: it was learnt from pairs of which half are relevant, and is no probability for real ones.
  """

  clip_id: str
  url: str
  start: float
  end: float
  narration: str
  execution: str
  shared: tuple[str, ...]
  similarity: float
  relevance: float | None

  @property
  def link(self) -> str:
    """The address of the clip, at its time where the site is known to take one; "" where none is known."""
    return f'{self.url}&t={int(self.start)}s' if 'youtube.com/watch?' in self.url else self.url

  def describe(self) -> str:
    """One line."""
    why = [f'about {", ".join(self.shared)}'] if self.shared else []
    why += [] if self.relevance is None else [f'relevance {self.relevance:.2f}']
    why.append(f'similarity {self.similarity:.2f}')
    kind = ', shows the mistake' if self.execution == 'incorrect' else ''
    place = f'{self.start:.1f}–{self.end:.1f} s of {self.link or self.clip_id.rpartition("/")[0] or self.clip_id}'
    return f'{place}{kind}: “{self.narration}” ({"; ".join(why)})'


def lines_of(suggestions: Sequence[Suggestion]) -> list[str]:
  """The lines of a segment of an assessment."""
  return [f'  watch      {suggestion.describe()}' for suggestion in suggestions]
