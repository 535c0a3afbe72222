"""Looks at the folder of a published dataset before it is prepared.

    python -m crosstrainer_jax.doctor egoexo4d /data/egoexo4d

says what is there, what is missing, which files are half-written, and the exact command for what is to be done. The
status is 1 where something that an import needs is missing or broken.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from crosstrainer_jax.datasets import SOURCES
from crosstrainer_jax.datasets.takes import findings


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb."""
  options = _parser().parse_args(arguments)
  try:
    found = importlib.import_module(f'{SOURCES[options.dataset]}.doctor').examine(options)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted')
  print(findings.describe(found))
  if not findings.well(found):
    sys.exit(1)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.doctor',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  datasets = parser.add_subparsers(dest='dataset', required=True, metavar='DATASET')
  for name, package in SOURCES.items():
    own = datasets.add_parser(name, help=f'data/{name}/README.md tells how to get it')
    importlib.import_module(f'{package}.doctor').add_options(own)
  return parser


if __name__ == '__main__':
  main()
