"""Discovery by a language model, as in the paper (section 3.3): the instruction is asked about each comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crosstrainer_jax.discovery import two_lines
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.instructions import Instruction
from crosstrainer_jax.discovery.language_model import Unreadable


class LanguageDiscoverer:
  """A language model with an instruction, as a backend of discovery.

  Args:
    kind: name of the backend, which the fingerprint begins with.
  """

  def __init__(self, kind: str, asker: Asker, instruction: Instruction):
    self.asker, self.instruction = asker, instruction
    sampling = asker.model.sampling
    written = f't{sampling.temperature:g}n{sampling.max_tokens}s{sampling.seed}'
    # More retries make more answers readable, and change none that is.
    prompt = f'{instruction.name}-{instruction.sha}'
    self.fingerprint = f'{kind}:{asker.model.name}:{prompt}:{written}:{two_lines.fingerprint()}'

  def discover(self, commentary: str, sport: str) -> Attributes:
    """Attributes of one comment. Raises Unreadable where the model gives no answer that can be read."""
    if not commentary.strip():
      return Attributes()
    (found,) = self._ask([(commentary, sport)])
    if isinstance(found, Unreadable):
      raise found
    return found

  def discover_many(self, comments: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Attributes | Unreadable]]:
    """Number of each comment (text, sport) and what was found in it, as answers come; equal ones are asked once."""
    places: dict[tuple[str, str], list[int]] = {}
    for number, comment in enumerate(comments):
      places.setdefault(comment, []).append(number)

    def work(group: list[tuple[str, str]]) -> list[tuple[tuple[str, str], Attributes | Unreadable]]:
      return list(zip(group, self._ask(group), strict=True))

    for answered in self.asker.each(work, places):
      for comment, found in answered:
        for number in places[comment]:
          yield number, found

  def _ask(self, comments: Sequence[tuple[str, str]]) -> list[Attributes | Unreadable]:
    return self.asker.ask([self.instruction.question(text, sport) for text, sport in comments], two_lines.read)
