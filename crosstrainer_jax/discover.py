"""Turns commentary into Correct / Incorrect skill-attributes (paper, section 3.3).

- a prepared dataset: `python -m crosstrainer_jax.discover --dataset skillsim --output attributes.jsonl`
- by a language model: `… --backend openai --base_url http://localhost:8000/v1 --model NAME`, first with `--estimate`
- one comment: `python -m crosstrainer_jax.discover --text "Great balance, but your knees are too straight."`
- one sentence of each comment: `… --dataset NAME --condense --backend openai --output condensed.jsonl`
- several attribute files against each other: `… --compare a.jsonl b.jsonl --report FOLDER`
- precision and recall on sentences of a grammar: `python -m crosstrainer_jax.discover --grammar-check grammar.toml`
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crosstrainer_jax import backends
from crosstrainer_jax.discovery import asking, condense, dataset, language
from crosstrainer_jax.discovery.agreement import Agreement, agreement, table
from crosstrainer_jax.discovery.backend import Discoverer, discover_each
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.input.progress import Progress


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault, and with 130 where it is interrupted."""
  options = _parser().parse_args(arguments)
  try:
    if options.compare:
      compare(options.compare, options.report, options.similarity)
    elif options.grammar_check:
      check_grammar(options.grammar_check, _discoverer(options))
    elif options.text is not None:
      _one_comment(options)
    else:
      _dataset(options)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('\ninterrupted; what is answered is kept: run the same command again to go on', file=sys.stderr)
    sys.exit(130)


def _discoverer(options: argparse.Namespace) -> Discoverer:
  """The backend of the options; says what is asked where it is a language model."""
  discoverer = backends.create(options.backend, backends.ModelSettings.of(vars(options)))
  if isinstance(discoverer, language.LanguageDiscoverer):
    print(backends.describe(discoverer.asker), file=sys.stderr)
  return discoverer


def _one_comment(options: argparse.Namespace) -> None:
  found = _discoverer(options).discover(options.text, options.sport)
  print(f'Correct - {", ".join(found.correct) or "none"}\nIncorrect - {", ".join(found.incorrect) or "none"}')


def _dataset(options: argparse.Namespace) -> None:
  directory = find_dataset(options.dataset, options.data_dir)
  output = options.output or ('condensed.jsonl' if options.condense else 'attributes.jsonl')
  if options.condense:
    asker = backends.open_asker(options.backend, backends.ModelSettings.of(vars(options)))
    print(backends.describe(asker), file=sys.stderr)
    if options.estimate:
      comments = condense.pending(directory, output, asker, options.limit)
      print(_estimate(asker, options, lambda dry: condense.condense_each(dry, comments)))
      return
    print(condense.condense_dataset(directory, output, asker, options.limit).describe())
    _say_calls(asker)
    return
  discoverer = _discoverer(options)
  if options.estimate:
    if not isinstance(discoverer, language.LanguageDiscoverer):
      raise ValueError(f'--estimate: the backend {options.backend} asks nobody, and costs nothing')
    todo = dataset.pending(directory, output, discoverer, options.limit)
    prompt = discoverer.instruction
    print(
      _estimate(
        discoverer.asker,
        options,
        lambda dry: language.LanguageDiscoverer(options.backend, dry, prompt).discover_many(todo),
      )
    )
    return
  report = dataset.discover_dataset(directory, output, discoverer, options.limit)
  print(report.describe())
  if isinstance(discoverer, language.LanguageDiscoverer):
    _say_calls(discoverer.asker)
  if options.canonical:
    from crosstrainer_jax.inference import canonical

    print(canonical.canonicalise(report.output, options.canonical, options.threshold).describe())


def _estimate(asker: asking.Asker, options: argparse.Namespace, ask: asking.Dry) -> str:
  return asking.estimate(asker, ask, price_in=options.price_in, price_out=options.price_out)


def _say_calls(asker: asking.Asker) -> None:
  print(f'{asker.called} questions asked now, {asker.reused} answered from {asker.store.path}')


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


def compare(files: Sequence[str], folder: str | None, similarity: str) -> None:
  """Prints counts, phrases, overlap of sports and agreement of attribute files; `folder` gets page and plot."""
  from crosstrainer_jax.evaluation import attribute_files

  report = attribute_files.compare([Path(file) for file in files], attribute_files.find_similarity(similarity))
  report.print()
  if folder:
    for path in report.write(Path(folder)):
      print(f'written: {path}')


def check_grammar(path: str, discoverer: Discoverer, clips_per_sport: int = 600) -> dict[str, Agreement]:
  """Prints and returns precision and recall on commentary that the embedded world says by the grammar in `path`.

  The expert is told to leave nothing out and imagine nothing, so that the faults of the clip are those of the text.
  """
  # The world costs seconds of import, which nobody else should wait for.
  from crosstrainer_jax.datasets.skillsim import grammar
  from crosstrainer_jax.datasets.skillsim.sports import SPORTS
  from crosstrainer_jax.datasets.skillsim.world import World

  world = World()
  specs = [world.spec(sport, 'train', index) for sport in SPORTS for index in range(clips_per_sport)]
  comments = [(grammar.render(spec, path, noise=0.0), spec.sport) for spec in specs]
  pairs, unread = [], 0
  with Progress('discover', len(comments), 'comments') as bar:
    for number, found in discover_each(discoverer, comments):
      bar.advance()
      if isinstance(found, Unreadable):
        unread += 1
      # what could not be read names no fault
      incorrect = [] if isinstance(found, Unreadable) else found.incorrect
      pairs.append(({fault.name for fault in specs[number].faults}, incorrect))
  counts = agreement(pairs)
  print(f'{len(pairs)} comments by {path}, read by {discoverer.fingerprint}')
  if unread:
    print(f'{unread} of them have no readable answer, which counts as naming nothing')
  print(table(counts))
  return counts


def _parser() -> argparse.ArgumentParser:
  assert __doc__ is not None
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.discover',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  task = parser.add_mutually_exclusive_group(required=True)
  task.add_argument('--dataset', help='a prepared dataset: its name in DATA_DIR, or its folder')
  task.add_argument('--text', help='read this one comment and print its two lists')
  task.add_argument('--compare', nargs='+', metavar='FILE', help='attribute files to set against each other')
  task.add_argument('--grammar-check', metavar='FILE', help='score against a grammar file of the embedded world')
  add = parser.add_argument
  add('--data_dir', default='runs/datasets', help='where datasets lie (default: %(default)s)')
  add('--backend', default='lexicon', choices=sorted(backends.BACKENDS), help='what reads (default: %(default)s)')
  add('--output', help='file to write; its valid lines are kept (default: attributes.jsonl, or condensed.jsonl)')
  add('--limit', type=int, help='read the first so many clips only')
  add('--sport', default='', help='sport of --text')
  add('--condense', action='store_true', help='write one sentence for each comment in the place of attributes')
  add('--canonical', metavar='DIR|lexicon', help='beside the phrases, one name for alike ones: by a BERT, or by rules')
  add('--threshold', type=float, default=0.7, help='cosine from which phrases are alike (default: %(default)s)')
  add('--report', metavar='FOLDER', help='where --compare writes its page and plot')
  add('--similarity', default='lexical', help='of --compare: exact, lexical or the folder of a BERT')
  add('--prompt', default='paper', help='wording of the question: paper, form, steps, or a TOML file (default: paper)')
  backends.add_options(parser)
  return parser


if __name__ == '__main__':
  main()
