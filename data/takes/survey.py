"""What an import would come to, before it is run: takes, clips, what is lost, and from a sample size and time."""

import concurrent.futures
import os
import pathlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator

from crosstrainer_jax.datasets.manifest import decoding
from crosstrainer_jax.datasets.manifest.plan import amount
from crosstrainer_jax.datasets.takes import builder, clips, making
from crosstrainer_jax.datasets.takes.journal import Journal, written
from crosstrainer_jax.datasets.takes.take import Loss, Source, Take
from crosstrainer_jax.input.progress import Progress

# Takes that are made in full for an estimate, spread evenly over all.
_SAMPLE = 3


def describe(source: Source, config: builder.TakesConfig, sample: bool = False) -> str:
  """Lines for the terminal. Every video is opened; nothing is written but to a temporary folder.

  Args:
    sample: also make the clips of some takes, to tell bytes and seconds.

  Raises what `Source.takes` does.
  """
  settings, workers = config.settings(source), config.workers or decoding.default_workers()
  counts: Counter[str] = Counter()
  with tempfile.TemporaryDirectory() as folder, written():
    journal = Journal(pathlib.Path(folder) / 'journal.sqlite')
    try:
      making.plan(source, settings, journal)
      total, _ = journal.count()
      with (
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        Progress('opening', total, 'takes') as progress,
      ):
        for chunk in _chunks(journal.left(), 4 * workers):
          for (key, take), (found, losses) in zip(
            chunk, pool.map(lambda pair: _look(pair[1], settings), chunk), strict=True
          ):
            journal.finish(key, found, 0, None, losses)
            counts[take.split] += found
            progress.advance()
      totals = journal.totals()
      lines = [
        f'{total} takes → {totals["clips"]} clips of {totals["takes"]} takes by {totals["participants"]} participants',
        'splits: ' + (', '.join(f'{name} {counts[name]}' for name in sorted(counts) if counts[name]) or 'none'),
        builder.describe_losses(journal) or 'nothing to lose',
      ]
      if sample and totals['clips']:
        lines.append(_measure(journal, settings, pathlib.Path(folder), workers))
      return '\n'.join(lines)
    finally:
      journal.close()


def _look(take: Take, settings: clips.Settings) -> tuple[int, list[Loss]]:
  losses: list[Loss] = []
  _, windows = clips.survey(take, settings, losses.append)
  return len(windows), losses


def _chunks(pairs: Iterator[tuple[str, Take]], size: int) -> Iterator[list[tuple[str, Take]]]:
  chunk: list[tuple[str, Take]] = []
  for pair in pairs:
    chunk.append(pair)
    if len(chunk) == size:
      yield chunk
      chunk = []
  if chunk:
    yield chunk


def _measure(journal: Journal, settings: clips.Settings, folder: pathlib.Path, workers: int) -> str:
  """Size and time, from some takes that are made on one thread."""
  totals = journal.totals()
  made_clips = made_bytes = 0
  begun = time.monotonic()
  for key, take in journal.spread(_SAMPLE):
    made = making.make(key, take, settings, folder)
    os.unlink(folder / key)
    made_clips, made_bytes = made_clips + made.clips, made_bytes + made.bytes
  seconds = time.monotonic() - begun
  if not made_clips:
    return 'size and time are not known: no clip could be made of the takes that were tried'
  size = made_bytes / made_clips * totals['clips']
  hours = seconds / made_clips * totals['clips'] / workers / 3600
  when = f'{60 * hours:.1f} min' if hours < 2 else f'{hours:.1f} h'
  return (
    f'{totals["clips"]} clips: about {amount(size)}, as much again during the import; {when} on {workers} workers '
    f'(from {made_clips} clips)'
  )
