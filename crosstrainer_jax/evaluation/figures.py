"""The paper's figures from our runs, as pictures: transfer curves, and the matrix of sports and skills.

Ours and the published stand in panels of their own, since they are measured on different people unless the dataset is
the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crosstrainer_jax.evaluation.comparison import columns_of, metric_of, value
from crosstrainer_jax.evaluation.dials import need_matplotlib
from crosstrainer_jax.evaluation.finished import Finished
from crosstrainer_jax.evaluation.panels import Panel

# Of ours beside the rows of the figure.
_ALSO = {'random': ':', 'nearest neighbour': '--'}


def draw(panels: Sequence[Panel], runs: Sequence[Finished], title: str, path: Path) -> Path:
  """Writes the picture of one figure, and returns its path."""
  need_matplotlib()
  if panels[0].item == 'figure 5':
    _matrix(panels[0], runs, title, path)
  else:
    _curves(panels, runs, title, path)
  return path


def _curves(panels: Sequence[Panel], runs: Sequence[Finished], title: str, path: Path) -> None:
  """One row of panels for each metric and side: how a score falls as less is seen of the target."""
  metrics = list(dict.fromkeys(panel.metrics[0] for panel in panels))
  by_metric = [[panel for panel in panels if panel.metrics[0] == metric] for metric in metrics]
  theirs = any(not math.isnan(figure) for panel in panels for row in panel.published.values() for figure in row)
  sides = ('ours', 'published') if theirs else ('ours',)
  across = max(map(len, by_metric))
  figure = _figure(2.6 * across + 0.6, 2.3 * len(metrics) * len(sides) + 1)
  axes = figure.subplots(len(metrics) * len(sides), across, sharex=True, squeeze=False)
  for number, (metric, members) in enumerate(zip(metrics, by_metric, strict=True)):
    for offset, side in enumerate(sides):
      line = axes[number * len(sides) + offset]
      for axis, panel in zip(line, members, strict=False):
        curve(axis, panel, runs, side)
        axis.set_title(panel.places[panel.rows[0]][0].skill or panel.places[panel.rows[0]][0].sport, fontsize=9)
      for axis in line[len(members) :]:
        axis.set_visible(False)
      ours = metric_of(runs, columns_of(metric, members[0].dataset)[0])
      line[0].set_ylabel(f'{ours if side == "ours" else metric}, {side}', fontsize=8)
      handles, labels = line[0].get_legend_handles_labels()
      if handles:
        line[0].legend(handles, labels, fontsize=6, frameon=False)
  figure.suptitle(title, fontsize=10)
  _save(figure, path)


def curve(axis: Any, panel: Panel, runs: Sequence[Finished], side: str) -> None:
  places = panel.places[panel.rows[0]]
  if side == 'published':
    for row in panel.rows:
      axis.plot(panel.columns, panel.published[row], marker='o', markersize=3, linewidth=1, label=row)
  else:
    column = columns_of(panel.metrics[0], panel.dataset)[0]
    rows = list(dict.fromkeys([*filter(None, panel.ours.values()), *_ALSO]))
    for row in rows:
      found = [value(runs, place, row, column) for place in places]
      if all(math.isnan(interval.value) for interval in found):
        continue
      middle = [interval.value for interval in found]
      spread = [
        [interval.value - interval.low for interval in found],
        [interval.high - interval.value for interval in found],
      ]
      style = {'color': 'grey', 'linestyle': _ALSO[row]} if row in _ALSO else {}
      axis.errorbar(
        panel.columns, middle, yerr=spread, marker='o', markersize=3, linewidth=1, capsize=2, label=row, **style
      )
  axis.margins(y=0.1)
  axis.set_ylim(bottom=0)
  axis.tick_params(labelsize=7)


def _matrix(panel: Panel, runs: Sequence[Finished], title: str, path: Path) -> None:
  column = columns_of(panel.metrics[0], panel.dataset)[0]
  ours = [[value(runs, place, panel.ours[row], column).value for place in panel.places[row]] for row in panel.rows]
  sides = {'ours': np.array(ours), 'published': np.array([panel.published[row] for row in panel.rows])}
  figure = _figure(11, 3.2)
  axes = figure.subplots(1, 2)
  for axis, (side, values) in zip(axes, sides.items(), strict=True):
    axis.imshow(values, cmap='viridis')
    axis.set_xticks(range(len(panel.columns)), panel.columns, rotation=20, ha='right', fontsize=8)
    axis.set_yticks(range(len(panel.rows)), panel.rows, fontsize=8)
    axis.set_title(f'{metric_of(runs, column) if side == "ours" else panel.metrics[0]}, {side}', fontsize=9)
    middle = np.nanmean(values) if np.isfinite(values).any() else 0.0
    for (i, j), figure_of in np.ndenumerate(values):
      text = '–' if math.isnan(figure_of) else f'{figure_of:.1f}'
      axis.text(j, i, text, ha='center', va='center', fontsize=8, color='white' if figure_of < middle else 'black')
  axes[0].set_ylabel('trained on', fontsize=8)
  figure.suptitle(title, fontsize=10)
  _save(figure, path)


def _figure(width: float, height: float) -> Any:
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout='constrained')


def _save(figure: Any, path: Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120, metadata={'Software': None})
