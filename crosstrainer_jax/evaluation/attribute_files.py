"""Several files of attributes side by side: counts, frequent phrases, overlap between sports, and how well two agree.

The agreement of two files is that of the paper's Table 4 (right): on each clip the incorrect attributes of one file are
matched to those of the other so that the similarity of the pairs is largest (Hungarian algorithm), and the pairs'
similarity is averaged on the clip, and then over clips. The paper does not say what becomes of phrases that find no
partner. Here both are told: the mean over pairs, on clips where both files name something, and the mean in which a
phrase without a partner counts as 0, on clips where at least one does.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from scipy.optimize import linear_sum_assignment

from crosstrainer_jax.discovery.dataset import read_attribute_lines
from crosstrainer_jax.evaluation.attributes import EXACT, LEXICAL, Similarity, normalise
from crosstrainer_jax.evaluation.bootstrap import Interval, Statistic, bootstrap, ratio
from crosstrainer_jax.evaluation.dials import need_matplotlib
from crosstrainer_jax.evaluation.table import MISSING, Table, markdown, show, terminal
from crosstrainer_jax.input.files import write_atomically

_TOP = 8
_RESAMPLES = 1000
PAGE, PLOT = 'attributes.md', 'attributes.png'


@dataclasses.dataclass(frozen=True)
class AttributeFile:
  """One file of `discover_dataset`.

  Attributes:
    name: short, and different from that of other files.
    lines: by clip id.
  """

  name: str
  backend: str
  lines: dict[str, dict]

  @property
  def sports(self) -> list[str]:
    return sorted({line['sport'] for line in self.lines.values()})

  def phrases(self, sport: str | None = None, kind: str = 'incorrect') -> collections.Counter[str]:
    """How often each phrase stands in the lists of a sport, or of all."""
    return collections.Counter(
      normalise(phrase) for line in self.lines.values() if sport in (None, line['sport']) for phrase in line[kind]
    )


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How well two files agree, in points of 100.

  Attributes:
    pairs: mean similarity of matched pairs, on the clips where both name something.
    all: where a phrase without a partner counts as 0, on the clips where at least one names something.
    pairs_floor, all_floor: the same between clips that have nothing to do with each other (the second file's shuffled).
    both_empty, one_empty: clips on which both, or one of the files, name nothing.
  """

  first: str
  second: str
  pairs: Interval
  all: Interval
  pairs_floor: Interval
  all_floor: Interval
  clips: int
  both_empty: int
  one_empty: int


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What there is to say of the files."""

  files: list[AttributeFile]
  similarity: Similarity
  agreements: list[Agreement]

  def tables(self) -> list[Table]:
    """Counts, agreement, frequent phrases by sport, and overlap between the sports of each file."""
    return [
      _counts(self.files),
      *([_agreement_table(self.agreements, self.similarity)] if self.agreements else []),
      *(_top(file) for file in self.files),
      *(table for file in self.files if len(file.sports) > 1 for table in _overlap_tables(file)),
    ]

  def notes(self) -> list[str]:
    notes = [f'{file.name}: {file.backend}' for file in self.files]
    if self.agreements:
      notes += [
        f'Similarity of phrases: {self.similarity.meaning}.',
        'Matched pairs: mean similarity of the pairs, on clips where both files name something incorrect.',
        'Unmatched as 0: the same with 0 for a phrase without a partner, on clips where at least one names something.',
        'Floors: the same between clips drawn at random, seed 0; what any two lists of phrases have in common.',
        f'[95 % percentile bootstrap by take, {_RESAMPLES} resamples, seed 0], in points of 100.',
      ]
    return [
      *notes,
      'Overlap of sports: Jaccard index of the sets of incorrect phrases; shared mass is Σ min(p, q) over phrases, '
      'where p and q are their shares of all incorrect phrases of either sport. Phrases are compared as exact strings.',
    ]

  def to_markdown(self, plot: str = '') -> str:
    parts = [*(markdown(table) for table in self.tables()), *(f'- {note}' for note in self.notes())]
    if plot:
      parts.insert(0, f'![Overlap of sports and agreement of files]({plot})\n')
    return '\n'.join(['# Attributes', '', *parts]) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    console = terminal(file)
    for table in self.tables():
      show(table, console)
    for note in self.notes():
      console.print(note, markup=False)

  def write(self, folder: Path) -> list[Path]:
    """The page and the plot in `folder`. Raises ValueError where there is no matplotlib."""
    need_matplotlib()
    plot(self, folder / PLOT)
    write_atomically(folder / PAGE, self.to_markdown(PLOT))
    return [folder / PAGE, folder / PLOT]


def find_similarity(name: str) -> Similarity:
  """`exact`, `lexical`, or the BERT-score by a BERT in a local folder.

  Raises:
    FileNotFoundError, ValueError: no such folder, or no encoder in it that is supported.
  """
  if name in ('exact', 'lexical'):
    return EXACT if name == 'exact' else LEXICAL
  if not Path(name).is_dir():
    raise FileNotFoundError(f'--similarity {name}: exact, lexical, or the folder of a BERT')
  from crosstrainer_jax.evaluation.bert_score import BertScore

  return BertScore.load(name).similarity()


def compare(paths: Sequence[Path], similarity: Similarity) -> Comparison:
  """Reads the files, and compares each pair of them on the clips that both have.

  Raises:
    FileNotFoundError, ValueError: a file that cannot be read, or two without a common clip.
  """
  files = [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]
  return Comparison(files, similarity, [agree(*pair, similarity) for pair in itertools.combinations(files, 2)])


def agree(first: AttributeFile, second: AttributeFile, similarity: Similarity) -> Agreement:
  """How well the incorrect attributes of two files agree; see the module's docstring.

  Raises:
    ValueError: they have no clip in common, or disagree on what was said in one.
  """
  clips = [clip for clip in first.lines if clip in second.lines]
  if not clips:
    raise ValueError(f'{first.name} and {second.name} have no clip in common: they are of other datasets')
  differing = sum(first.lines[clip]['text_sha'] != second.lines[clip]['text_sha'] for clip in clips)
  if differing:
    raise ValueError(f'{first.name} and {second.name} were made from other commentary on {differing} clips')
  said = [[sorted({normalise(phrase) for phrase in file.lines[clip]['incorrect']}) for clip in clips]
          for file in (first, second)]  # fmt: skip
  # What clips that have nothing to do with each other agree in: raw similarities of any two phrases can be high.
  others = [said[1][number] for number in np.random.default_rng(0).permutation(len(clips))]
  takes = [first.lines[clip]['take'] for clip in clips]
  found = [_agreement(_matched(said[0], lists, similarity), said[0], lists, takes) for lists in (said[1], others)]
  return Agreement(
    first.name,
    second.name,
    pairs=found[0][0],
    all=found[0][1],
    pairs_floor=found[1][0],
    all_floor=found[1][1],
    clips=len(clips),
    both_empty=sum(not a and not b for a, b in zip(*said, strict=True)),
    one_empty=sum(bool(a) != bool(b) for a, b in zip(*said, strict=True)),
  )


def _agreement(
  matched: Sequence[Sequence[float]],
  first: Sequence[Sequence[str]],
  second: Sequence[Sequence[str]],
  takes: Sequence[str],
) -> list[Interval]:
  """Mean similarity over the matched pairs of each clip, and with 0 for phrases without a partner."""
  most = [max(len(a), len(b)) for a, b in zip(first, second, strict=True)]
  pairs = [[float(np.mean(row)), 1.0] if row else [0.0, 0.0] for row in matched]
  whole = [[sum(row) / m if m else 0.0, float(m > 0)] for row, m in zip(matched, most, strict=True)]
  return [
    bootstrap(Statistic(sums, sums[:, 1] > 0, _mean), takes, _RESAMPLES) for sums in (np.array(pairs), np.array(whole))
  ]


def _matched(
  first: Sequence[Sequence[str]], second: Sequence[Sequence[str]], similarity: Similarity
) -> list[list[float]]:
  """The similarities of the matched pairs of each clip."""
  # all at once, which a BERT is much faster at
  pairs = sorted({pair for one, other in zip(first, second, strict=True) for pair in itertools.product(one, other)})
  values = dict(zip(pairs, similarity.pairs(pairs).tolist(), strict=True)) if pairs else {}
  return [matched_similarities(one, other, values) for one, other in zip(first, second, strict=True)]


def matched_similarities(
  first: Sequence[str], second: Sequence[str], values: Mapping[tuple[str, str], float]
) -> list[float]:
  """The similarities (`values`, of each pair) of the pairs that are matched so that their sum is largest."""
  if not first or not second:
    return []
  matrix = np.array([[values[one, other] for other in second] for one in first])
  return [float(value) for value in matrix[linear_sum_assignment(matrix, maximize=True)]]


def overlap(first: collections.Counter[str], second: collections.Counter[str]) -> tuple[float, float]:
  """Jaccard index of two sets of phrases, and the mass that they share, 0 … 1; NaN where one has no phrase."""
  if not first or not second:
    return math.nan, math.nan
  shares = [{phrase: count / counter.total() for phrase, count in counter.items()} for counter in (first, second)]
  common = first.keys() & second.keys()
  mass = sum(min(share[phrase] for share in shares) for phrase in common)
  return len(common) / len(first.keys() | second.keys()), mass


def plot(comparison: Comparison, path: Path) -> None:
  """Shared mass between the sports of the first file, and the agreement of the files, as PNG."""
  need_matplotlib()
  from matplotlib.figure import Figure

  file, agreements = comparison.files[0], comparison.agreements
  sports = file.sports
  size = max(3.2, 0.8 * len(sports) + 2)
  figure = Figure(figsize=(size + (5.2 if agreements else 0), max(3.4, 0.55 * len(sports) + 2)), layout='constrained')
  axes = figure.subplots(1, 2 if agreements else 1, squeeze=False)[0]
  phrases = [file.phrases(sport) for sport in sports]
  mass = np.array([[overlap(one, other)[1] for other in phrases] for one in phrases])
  axes[0].imshow(mass, vmin=0, vmax=1, cmap='Blues')
  axes[0].set_xticks(range(len(sports)), sports, rotation=30, ha='right', fontsize=8)
  axes[0].set_yticks(range(len(sports)), sports, fontsize=8)
  for row, column in np.argwhere(np.isfinite(mass)):
    value = mass[row, column]
    axes[0].text(column, row, f'{value:.2f}', ha='center', va='center', fontsize=8, color='w' if value > 0.6 else 'k')
  axes[0].set_title(f'shared mass of incorrect phrases\n{file.name}', fontsize=9)
  if agreements:
    names = [f'{agreement.first} – {agreement.second}' for agreement in agreements]
    kinds = ((-0.15, 'tab:blue', 'matched pairs', 'pairs'), (0.15, 'tab:orange', 'unmatched as 0', 'all'))
    for offset, colour, label, kind in kinds:
      for place, agreement in enumerate(agreements):
        interval: Interval = getattr(agreement, kind)
        axes[1].plot([interval.low, interval.high], [place + offset] * 2, color=colour, linewidth=1.5)
        axes[1].plot([interval.value], [place + offset], 'o', color=colour, label=label if place == 0 else None)
        floor: Interval = getattr(agreement, f'{kind}_floor')
        shown = 'floor: clips at random' if (place, kind) == (0, 'all') else None
        axes[1].plot([floor.value], [place + offset], '|', color='0.4', markersize=9, label=shown)
    axes[1].set_yticks(range(len(names)), names, fontsize=8)
    axes[1].set_ylim(len(names) - 0.5, -0.5)
    axes[1].set_xlim(0, 100)
    axes[1].grid(axis='x', alpha=0.3)
    axes[1].set_xlabel('mean similarity × 100, 95 % by take', fontsize=8)
    axes[1].set_title(
      f'agreement of incorrect attributes\n{textwrap.fill(comparison.similarity.meaning, 60)}', fontsize=9
    )
    axes[1].legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.2), ncols=3)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120, metadata={'Software': None})


def _read(path: Path, name: str) -> AttributeFile:
  lines = read_attribute_lines(path)
  if not all(isinstance(line.get(field), str) for line in lines for field in ('sport', 'take')):
    raise ValueError(f'{path}: lines without sport and take, by an earlier version: run discover again, it keeps them')
  if not lines:
    raise ValueError(f'{path}: no clip has a line')
  backends = sorted({line['backend'] for line in lines})
  return AttributeFile(name, ' and '.join(backends), {line['clip_id']: line for line in lines})


def _names(paths: Sequence[Path]) -> list[str]:
  """Stems; with the folder, or the whole path, where these are not enough."""
  for name in (lambda path: path.stem, lambda path: f'{path.parent.name}/{path.stem}', str):
    names = [name(path) for path in paths]
    if len(set(names)) == len(names):
      return names
  raise ValueError('the same file is given twice')


def _mean(sums: np.ndarray) -> np.ndarray:
  return 100 * ratio(sums[..., 0], sums[..., 1])


def _counts(files: Sequence[AttributeFile]) -> Table:
  columns = ['clips', 'takes', 'with something incorrect', 'incorrect a clip', 'correct a clip', 'different phrases',
             'said once']  # fmt: skip
  rows = []
  for file in files:
    n, incorrect, correct = len(file.lines), file.phrases(), file.phrases(kind='correct')
    rows.append((file.name, [
      str(n), str(len({line['take'] for line in file.lines.values()})),
      f'{100 * sum(bool(line["incorrect"]) for line in file.lines.values()) / n:.1f} %',
      f'{incorrect.total() / n:.2f}', f'{correct.total() / n:.2f}', str(len(incorrect)),
      str(sum(count == 1 for count in incorrect.values())),
    ]))  # fmt: skip
  return Table('Counts', columns, rows)


def _top(file: AttributeFile) -> Table:
  rows = []
  for sport in file.sports:
    counter = file.phrases(sport)
    top = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    cells = [f'{phrase} ({count})' for phrase, count in top]
    rows.append((sport, cells + [''] * (_TOP - len(cells))))
  return Table(f'Most frequent incorrect phrases, {file.name}', [str(rank) for rank in range(1, _TOP + 1)], rows)


def _overlap_tables(file: AttributeFile) -> list[Table]:
  found = {pair: overlap(*(file.phrases(sport) for sport in pair)) for pair in itertools.product(file.sports, repeat=2)}
  return [
    Table(
      f'{title} between sports, {file.name}',
      file.sports,
      [(a, [_number(found[a, b][which]) for b in file.sports]) for a in file.sports],
    )
    for which, title in enumerate(('Jaccard index', 'Shared mass'))
  ]


def _agreement_table(agreements: Sequence[Agreement], similarity: Similarity) -> Table:
  columns = ['matched pairs', 'floor', 'clips', 'unmatched as 0', 'floor', 'clips', 'takes', 'both name nothing',
             'one names nothing']  # fmt: skip
  rows = [
    (f'{one.first} – {one.second}', [
      _interval(one.pairs), f'{one.pairs_floor.value:.1f}', str(one.pairs.n_clips),
      _interval(one.all), f'{one.all_floor.value:.1f}', str(one.all.n_clips), str(one.all.n_takes),
      str(one.both_empty), str(one.one_empty),
    ])
    for one in agreements
  ]  # fmt: skip
  return Table(f'Agreement of incorrect attributes ({similarity.meaning})', columns, rows)


def _interval(interval: Interval) -> str:
  if math.isnan(interval.value):
    return MISSING
  return f'{interval.value:.1f}' + ('' if math.isnan(interval.low) else f' [{interval.low:.1f}, {interval.high:.1f}]')


def _number(value: float) -> str:
  return MISSING if math.isnan(value) else f'{value:.2f}'
