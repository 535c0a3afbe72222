"""How well discovered attributes agree with the faults that are known: precision, recall and F1 of each fault."""

import dataclasses
from collections.abc import Collection, Iterable


@dataclasses.dataclass
class Agreement:
  """Counts of one fault over texts."""

  hits: int = 0
  false_alarms: int = 0
  misses: int = 0

  @property
  def precision(self) -> float:
    """Hits among the texts in which it was found; 0 if it was never found."""
    return self.hits / max(self.hits + self.false_alarms, 1)

  @property
  def recall(self) -> float:
    """Hits among the texts of which it is true; 0 if there are none."""
    return self.hits / max(self.hits + self.misses, 1)

  @property
  def f1(self) -> float:
    """2 hits / (2 hits + false alarms + misses)."""
    return 2 * self.hits / max(2 * self.hits + self.false_alarms + self.misses, 1)


def agreement(pairs: Iterable[tuple[Collection[str], Collection[str]]]) -> dict[str, Agreement]:
  """Agreement of each fault over `(true faults, discovered incorrect attributes)`, by canonical names, sorted.

  A discovered attribute that is never a true fault has false alarms only.
  """
  counts: dict[str, Agreement] = {}
  for true, found in pairs:
    for name in {*true, *found}:
      count = counts.setdefault(name, Agreement())
      count.hits += name in true and name in found
      count.false_alarms += name not in true
      count.misses += name not in found
  return dict(sorted(counts.items()))


def table(counts: dict[str, Agreement]) -> str:
  """The agreement as text: a row for each true fault, their sum, and a line on what else was found."""
  faults = {name: count for name, count in counts.items() if count.hits + count.misses}
  others = {name: count.false_alarms for name, count in counts.items() if name not in faults}
  total = Agreement(*(sum(getattr(c, field) for c in faults.values()) for field in ('hits', 'false_alarms', 'misses')))
  lines = [f'{"fault":<20} precision  recall      F1   true']
  lines += [_row(name, count) for name, count in (*faults.items(), ('all of these', total))]
  if others:
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    shown = ', '.join(f'{name} ({n})' for name, n in ranked[:8]) + (', ...' if len(ranked) > 8 else '')
    lines.append(f'found beside them, not counted above: {sum(others.values())}: {shown}')
  return '\n'.join(lines)


def _row(name: str, count: Agreement) -> str:
  return f'{name:<20} {count.precision:9.3f} {count.recall:7.3f} {count.f1:7.3f} {count.hits + count.misses:6d}'
