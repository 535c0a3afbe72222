"""Discovery over a prepared dataset: one JSON line for each clip that has commentary.

A line holds `clip_id`, `text_sha` (of the commentary), `backend` (its fingerprint), `correct` and `incorrect`. Lines go
to `<output>.part` as they are made and are put in place at the end, so that a killed run loses nothing and a reader
never sees half a file. A later run keeps the lines whose text and backend are unchanged.
"""

import collections
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from crosstrainer_jax.discovery import backend as backends
from crosstrainer_jax.discovery.agreement import Agreement, agreement, table
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.input.buckets import as_path, in_bucket
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipSource

_TOP = 8


@dataclasses.dataclass
class Report:
  """What a run over a dataset did and found."""

  output: Path
  clips: int = 0
  silent: int = 0  # clips without commentary
  kept: int = 0  # lines taken over from an earlier run
  broken: int = 0  # lines of an earlier run that could not be read
  faulty: int = 0  # clips with at least one incorrect attribute
  phrases: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)  # incorrect ones, by sport
  agreement: dict[str, Agreement] = dataclasses.field(default_factory=dict)  # empty where no truth is known

  def describe(self) -> str:
    """The report as text."""
    spoken = self.clips - self.silent
    lines = [
      f'{self.clips} clips: {self.silent} without commentary skipped, {self.kept} kept from an earlier run, '
      f'{spoken - self.kept} read now; {self.faulty} of {spoken} with at least one incorrect attribute'
    ]
    if self.broken:
      lines.append(f'{self.broken} unreadable lines of an earlier run were dropped')
    for sport, counter in sorted(self.phrases.items()):
      top = ', '.join(f'{phrase} ({n})' for phrase, n in counter.most_common(_TOP))
      lines.append(f'{sport}: {top or "nothing incorrect"}')
    if self.agreement:
      lines += ['against the true faults, which the commentary may leave out:', table(self.agreement)]
    lines.append(f'written: {self.output}')
    return '\n'.join(lines)


def discover_dataset(
  directory: str | Path, output: str | Path, backend: str = 'lexicon', limit: int | None = None, progress: bool = True
) -> Report:
  """Discovers the attributes of every clip of the dataset in `directory` and writes them to `output` (JSON Lines).

  Args:
    directory: a prepared dataset (the folder that holds `dataset_info.json`).
    output: the file to write; lines of it that are still valid are kept.
    backend: a name in `backend.BACKENDS`.
    limit: read the first so many clips only; lines of other clips stay as they are.
    progress: show a progress bar.

  Raises:
    ValueError: unknown backend.
    FileNotFoundError: no dataset in `directory`.
  """
  discoverer = backends.create(backend)
  output = as_path(output)
  infos = ClipSource(directory).infos()[:limit]
  output.parent.mkdir(parents=True, exist_ok=True)
  part = output.with_name(output.name + '.part')
  if in_bucket(output):  # where nothing can be added to a file
    part = Path(tempfile.mkdtemp(prefix='crosstrainer_jax-')) / part.name
  report = Report(output, clips=len(infos))
  lines: dict[str, dict[str, object]] = {}
  for path in (output, part):
    for line in _read_lines(path, report):
      lines[str(line['clip_id'])] = line
  pairs = []
  with part.open('a', encoding='utf-8') as stream:
    for info in tqdm(infos, desc='discover', unit=' clips', disable=not progress):
      counter = report.phrases.setdefault(info.sport, collections.Counter())
      if not info.commentary.strip():
        report.silent += 1
        lines.pop(info.clip_id, None)
        continue
      key = {'text_sha': text_sha(info.commentary), 'backend': discoverer.fingerprint}
      line = lines.get(info.clip_id, {})
      if key.items() <= line.items():
        report.kept += 1
      else:
        found = discoverer.discover(info.commentary, info.sport)
        line = {'clip_id': info.clip_id, **key, 'correct': found.correct, 'incorrect': found.incorrect}
        lines[info.clip_id] = line
        stream.write(json.dumps(line, ensure_ascii=False) + '\n')
        stream.flush()
      incorrect = _attributes(line).incorrect
      report.faulty += bool(incorrect)
      counter.update(incorrect)
      if info.has_faults:
        pairs.append((info.faults, incorrect))
  _replace(output, lines)
  part.unlink()
  report.agreement = agreement(pairs)
  return report


def read_attributes(path: str | Path) -> dict[str, Attributes]:
  """The attributes of each clip id in a file of `discover_dataset`."""
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no attributes here. Make them: python -m crosstrainer_jax.discover --help')
  report = Report(path)
  found = {str(line['clip_id']): _attributes(line) for line in _read_lines(path, report)}
  if report.broken:
    raise ValueError(f'{path}: {report.broken} unreadable lines. Delete the file and run discover again')
  return found


def text_sha(text: str) -> str:
  """The hash by which a line knows its commentary again."""
  return hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]


def _attributes(line: dict[str, object]) -> Attributes:
  correct, incorrect = line['correct'], line['incorrect']
  assert isinstance(correct, list)
  assert isinstance(incorrect, list)
  return Attributes(correct, incorrect)


def _read_lines(path: Path, report: Report) -> Iterator[dict[str, object]]:
  """The valid lines of `path`, none if there is no such file; the others are counted."""
  if not path.is_file():
    return
  for text in path.read_bytes().decode('utf-8', errors='replace').splitlines():
    try:
      line = json.loads(text)
      valid = all(isinstance(line[name], str) for name in ('clip_id', 'text_sha', 'backend'))
      valid &= all(isinstance(line[name], list) for name in ('correct', 'incorrect'))
    except (ValueError, TypeError, KeyError):
      valid = False
    if valid:
      yield line
    else:
      report.broken += 1


def _replace(output: Path, lines: dict[str, dict[str, object]]) -> None:
  write_atomically(output, ''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines.values()))
