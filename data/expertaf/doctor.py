"""Looks at what an import of ExpertAF needs: its lists, and the takes of Ego-Exo4D that they name."""

import argparse
import pathlib

from crosstrainer_jax.datasets.egoexo4d import doctor as videos
from crosstrainer_jax.datasets.egoexo4d.index import NO_TAKE
from crosstrainer_jax.datasets.expertaf import source as sources
from crosstrainer_jax.datasets.takes import findings
from crosstrainer_jax.datasets.takes.findings import Finding
from crosstrainer_jax.datasets.takes.take import Loss

_PAGE = 'data/expertaf/README.md says where it is from'


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of the verb `doctor`, for this dataset."""
  parser.add_argument('root', help='folder of Ego-Exo4D, with its takes.json and videos')
  parser.add_argument('--train', default='', help="ExpertAF's training list, a .json file")
  parser.add_argument('--test', default='', help="ExpertAF's test list")
  parser.add_argument('--missing', metavar='FILE', help='write the uids of takes that lack something, for the command')


def examine(options: argparse.Namespace) -> list[Finding]:
  """The findings. Raises FileNotFoundError and ValueError as `sources.ExpertAF` does."""
  root = pathlib.Path(options.root)
  report = []
  for option in ('train', 'test'):
    path = pathlib.Path(getattr(options, option))
    if not getattr(options, option):
      report.append(Finding('absent', f'--{option}', 'not named', _PAGE))
    elif not path.is_file():
      report.append(Finding('missing', str(path), 'not there', _PAGE))
    else:
      wrong = findings.fault(path)
      report.append(Finding('broken' if wrong else 'there', str(path), wrong))
  takes = root / 'takes.json'
  if not takes.is_file():
    report.append(Finding('missing', 'takes.json', 'not there', videos.command(root, 'metadata')))
  if findings.well(report):
    report += _joined(sources.ExpertAF(options.root, options.train, options.test), root, options.missing)
  return report


def _joined(source: sources.ExpertAF, root: pathlib.Path, missing_file: str | None) -> list[Finding]:
  """The videos of the takes that the lists name."""
  lost: list[str] = []

  def lose(loss: Loss) -> None:
    if loss.reason == NO_TAKE:
      lost.append(loss.id)

  report = videos.look_at(((uid, take.videos) for uid, take in source.joined(lose)), '', root, missing_file)
  if lost:
    report.append(
      Finding('broken', 'lists', f'{len(lost)} entries of takes that takes.json has not (first: {lost[0]})')
    )
  return report
