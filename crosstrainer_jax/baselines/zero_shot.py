"""The row *zero-shot VLM*: a vision-language model behind a server that saw no training clip, with our two prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.discovery import asking
from crosstrainer_jax.inference.zero_shot import Seen, Tally, ZeroShot
from crosstrainer_jax.input.source import ClipSource

ROW = 'zero-shot VLM'
NEEDS = 'needs a server: --backend openai --base_url … (or --backend local --model DIRECTORY)'


def predict(
  model: ZeroShot,
  source: ClipSource,
  indices: Sequence[int],
  references: Sequence[Reference],
  report: Callable[[int], None] = lambda _: None,
  say: Callable[[str], None] = print,
) -> list[Prediction]:
  """Attributes and feedback of the clips `indices` of a dataset; what could not be read is None, and counts as wrong.

  Args:
    report: told how many clips more are done.
    say: told how much of the clips is shown, how many answers could not be read, and why.

  Raises:
    ServerError: the server cannot be asked further; what was answered is kept, and the next call goes on.
  """
  infos, tally = source.infos(), Tally()
  for index in indices:
    tally.add(list(infos[index].frame_times), model.eyes)
  say(f'  {model.asker.model.name}: {tally}')
  found: dict[int, Seen] = {}
  for number, seen in model.see_dataset(source, indices, [reference.sport for reference in references]):
    found[number] = seen
    report(1)
  lost = {number: seen.reason for number, seen in sorted(found.items()) if seen.reason}
  if lost:
    say(
      f'  {len(lost)} of {len(found)} clips have no readable answer of {model.asker.model.name}, which counts as wrong:'
    )
    for number in list(lost)[:3]:
      say(f'    {references[number].clip_id}: {lost[number]}')
  return [
    reference.answer(attributes=found[number].attributes, feedback=found[number].feedback)
    for number, reference in enumerate(references)
  ]


def estimate(
  model: ZeroShot,
  source: ClipSource,
  indices: Sequence[int],
  references: Sequence[Reference],
  price_in: float = 0.0,
  price_out: float = 0.0,
) -> str:
  """What `predict` would ask: calls, tokens and price; nothing is asked."""
  sports = [reference.sport for reference in references]

  def ask(dry: asking.Asker) -> Iterator[object]:
    return ZeroShot(dry, model.eyes, model.k).see_dataset(source, indices, sports, anyway=True)

  pixels = min(model.eyes.pixels, source.frame_size or model.eyes.pixels)
  return asking.estimate(model.asker, ask, pixels=pixels, price_in=price_in, price_out=price_out)
