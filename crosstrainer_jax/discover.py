"""Turns commentary into Correct / Incorrect skill-attributes (paper, section 3.3).

- a prepared dataset: `python -m crosstrainer_jax.discover --dataset skillsim --output attributes.jsonl`
- one comment: `python -m crosstrainer_jax.discover --text "Great balance, but your knees are too straight."`
- precision and recall on sentences of a grammar: `python -m crosstrainer_jax.discover --grammar-check grammar.toml`
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crosstrainer_jax.discovery import backend as backends
from crosstrainer_jax.discovery.agreement import Agreement, agreement, table
from crosstrainer_jax.discovery.dataset import discover_dataset


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
  try:
    if options.text is not None:
      found = backends.create(options.backend).discover(options.text, options.sport)
      print(f'Correct - {", ".join(found.correct) or "none"}\nIncorrect - {", ".join(found.incorrect) or "none"}')
    elif options.grammar_check:
      check_grammar(options.grammar_check, options.backend)
    else:
      directory = find_dataset(options.dataset, options.data_dir)
      print(discover_dataset(directory, options.output, options.backend, options.limit).describe())
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted; run the same command again to go on')


def find_dataset(name: str, data_dir: str) -> Path:
  """The folder of a prepared dataset: `name` itself, or the newest below it or `data_dir/name`, which is then said."""
  for root in (Path(name), Path(data_dir) / name):
    found = sorted(root.rglob('dataset_info.json'), key=lambda path: path.stat().st_mtime) if root.is_dir() else []
    if len(found) > 1:
      print(f'reading {found[-1].parent}, the newest of {len(found)} datasets in {root}')
    if found:
      return found[-1].parent
  raise FileNotFoundError(
    f'no prepared dataset {name!r}, neither as a folder nor in {data_dir}. '
    'Prepare one: python -m crosstrainer_jax.prepare --help'
  )


def check_grammar(path: str, backend: str, clips_per_sport: int = 600) -> dict[str, Agreement]:
  """Prints and returns precision and recall on commentary that the embedded world says by the grammar in `path`.

  The expert is told to leave nothing out and imagine nothing, so that the faults of the clip are those of the text.
  """
  # The world costs seconds of import, which nobody else should wait for.
  from crosstrainer_jax.datasets.skillsim import grammar
  from crosstrainer_jax.datasets.skillsim.sports import SPORTS
  from crosstrainer_jax.datasets.skillsim.world import World

  discoverer = backends.create(backend)
  world = World()
  pairs = []
  for sport in SPORTS:
    for index in range(clips_per_sport):
      spec = world.spec(sport, 'train', index)
      found = discoverer.discover(grammar.render(spec, path, noise=0.0), sport)
      pairs.append(({fault.name for fault in spec.faults}, found.incorrect))
  counts = agreement(pairs)
  print(f'{len(pairs)} comments by {path}, read by {discoverer.fingerprint}\n{table(counts)}')
  return counts


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='python -m crosstrainer_jax.discover', description=__doc__.splitlines()[0])
  task = parser.add_mutually_exclusive_group(required=True)
  task.add_argument('--dataset', help='a prepared dataset: its name in DATA_DIR, or its folder')
  task.add_argument('--text', help='read this one comment and print its two lists')
  task.add_argument('--grammar-check', metavar='FILE', help='score against a grammar file of the embedded world')
  add = parser.add_argument
  add('--data_dir', default='runs/datasets', help='where datasets lie (default: %(default)s)')
  add('--backend', default='lexicon', choices=sorted(backends.BACKENDS), help='what reads (default: %(default)s)')
  add('--output', default='attributes.jsonl', help='file to write; its valid lines are kept (default: %(default)s)')
  add('--limit', type=int, help='read the first so many clips only')
  add('--sport', default='', help='sport of --text')
  return parser


if __name__ == '__main__':
  main()
