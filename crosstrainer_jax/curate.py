"""Makes a library of clips from a folder of instructional videos: what is said, what is shown, and how well.

    python -m crosstrainer_jax.curate sports --backend openai --model NAME --output sports.csv
    python -m crosstrainer_jax.curate queries sports.csv --output queries.csv
    python -m crosstrainer_jax.curate run VIDEOS --queries queries.csv --output runs/library
    python -m crosstrainer_jax.curate show runs/library actionable --dropped
    python -m crosstrainer_jax.curate audit runs/library --gate demonstrated
    python -m crosstrainer_jax.curate recheck runs/library
    python -m crosstrainer_jax.curate world --output runs/howto      a world whose truth is known, to try it on

Nothing is downloaded: yt-dlp fills the folder of videos. docs/sportskills.md has the whole way.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crosstrainer_jax import backends
from crosstrainer_jax.input.buckets import on_this_machine
from crosstrainer_jax.input.files import write_atomically

if TYPE_CHECKING:
  from crosstrainer_jax.curation.steps import Settings


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault, and with 130 where it is interrupted."""
  options = _parser().parse_args(arguments)
  try:
    options.work(options)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('\ninterrupted; what is finished is kept: run the same command again to go on', file=sys.stderr)
    sys.exit(130)


def sports(options: argparse.Namespace) -> None:
  """Lists sports and their skills by a language model."""
  from crosstrainer_jax.curation import taxonomy

  asker = backends.open_asker(options.backend, backends.ModelSettings.of(vars(options)))
  print(backends.describe(asker), file=sys.stderr)
  if options.estimate:
    count = len(options.sport) or options.count
    print(f'{count + (not options.sport)} calls to make at most: one for the sports, one for the skills of each')
    return
  names = options.sport or taxonomy.ask_sports(asker, options.count)
  found = {name: taxonomy.ask_skills(asker, name, options.skills) for name in names}
  write_atomically(options.output, taxonomy.write_sports(found))
  print(f'written: {options.output}, {len(found)} sports with {sum(map(len, found.values()))} skills; look it through')


def queries(options: argparse.Namespace) -> None:
  """Writes the searches, and says how a folder for them is filled."""
  from crosstrainer_jax.curation import taxonomy
  from crosstrainer_jax.datasets.youtube.doctor import command

  words = tuple(part.strip() for part in options.words.split(',') if part.strip())
  found = taxonomy.queries(taxonomy.read_sports(options.sports), words)
  write_atomically(options.output, taxonomy.write_queries(found))
  first = found[0]
  search = command(pathlib.Path(options.videos) / first.id, ['en'], [f'ytsearch{options.results}:{first.text}'])
  print(f'written: {options.output}, {len(found)} searches')
  print('Each is to fill a folder of its id; the first one, for example:\n')
  print(f'  {search}\n')
  again = f'--queries {shlex.quote(str(options.output))} --output runs/library'
  print(f'then: python -m crosstrainer_jax.curate run {shlex.quote(options.videos)} {again}')


def world(options: argparse.Namespace) -> None:
  """Writes the how-to world."""
  from crosstrainer_jax.datasets.howto import folder

  made = folder.write(on_this_machine(options.output, '--output'), options.seed, options.videos)
  print(f'{options.output}: {len(made)} videos of the how-to world, seed {options.seed}')
  here = shlex.quote(str(options.output))
  table = shlex.quote(str(pathlib.Path(options.output) / folder.TABLE_FILE))
  print(f'next: python -m crosstrainer_jax.curate run {here} --table {table} --output runs/library --longest 4')


def run(options: argparse.Namespace) -> None:
  """The curation itself."""
  from crosstrainer_jax.curation import scan, steps
  from crosstrainer_jax.curation.run import Run

  folder = scan.Folder(options.root, options.sport, options.skill, options.table, options.queries)
  place = on_this_machine(options.output, '--output')
  own = Run(place, folder, _settings(options), options.test_fraction, options.seed)
  for asker in own.askers:
    print(backends.describe(asker), file=sys.stderr)
  if options.estimate:
    print(own.estimate(options.price_in, options.price_out))
    return
  if options.beam_options is not None and options.until != steps.NAMES[-1]:
    raise ValueError('--until is for this machine: with --beam_options all steps are one graph')
  found = own.make(options.until, options.beam_options)
  found.print()
  for suffix, content in (('md', found.to_markdown()), ('json', found.to_json())):
    write_atomically(place / f'report.{suffix}', content)
  print(f'written: {place}/report.md, report.json' + (', manifest.parquet' if found.totals else ''))
  if found.unanswered:
    print(f'{found.unanswered} questions have no answer that can be read; the same command again asks them again')
  if found.totals and found.totals.clips and not options.without_records:
    # A window is [start, start + longest] at most; where it lies is the manifest's.
    own.write_records(
      options.name,
      workers=options.workers,
      mu1=0.0,
      mu2=options.longest,
      fps=options.fps,
      size=options.size,
      fit=options.fit,
    )


def _settings(options: argparse.Namespace) -> Settings:
  from crosstrainer_jax.curation import look, steps
  from crosstrainer_jax.datasets.youtube.transcript import Limits

  text = backends.ModelSettings.of(vars(options))
  vision = dataclasses.replace(
    text, model=options.vision_model or text.model, base_url=options.vision_base_url or text.base_url
  )
  languages = tuple(part.strip().lower() for part in options.languages.split(',') if part.strip())
  return steps.Settings(
    options.root,
    Limits(languages, options.min_confidence, options.max_drift),
    look.Windows(options.before, options.after, options.longest, min(options.shortest, options.longest)),
    options.punctuation,
    options.actionable,
    options.demonstrated,
    text,
    vision,
    options.pixels,
  )


def show(options: argparse.Namespace) -> None:
  """Prints what a step has left."""
  from crosstrainer_jax.curation import steps
  from crosstrainer_jax.curation.run import root_of
  from crosstrainer_jax.curation.work import Work

  shown = 0
  place = pathlib.Path(options.folder)
  root_of(place)
  for video in Work(place).videos(steps.NAMES.index(options.step), options.step):
    if options.dropped and video.dropped == options.step:
      print(f'{video.id}  dropped: {video.reason}' + (f' ({video.detail})' if video.detail else ''))
      shown += 1
    for segment in video.segments:
      if shown < options.count and (segment.dropped == options.step if options.dropped else segment.kept):
        start, end = segment.window or segment.spoken
        why = f'  [{segment.reason}: {segment.detail}]' if options.dropped else f'  {segment.execution}'
        print(f'{video.clip_id(segment)}  {start:7.1f}–{end:.1f} s  {segment.narration}{why}')
        shown += 1
    if shown >= options.count:
      break
  if not shown:
    print('nothing')


def audit(options: argparse.Namespace) -> None:
  """Writes a sheet for people, or reads what they made of it."""
  from crosstrainer_jax import judging
  from crosstrainer_jax.curation import audit as sheets
  from crosstrainer_jax.curation.run import root_of

  place = pathlib.Path(options.folder)
  folder = place / 'audit' / options.gate
  if options.judged:
    judging.judge(options.judged.split(','), str(folder / 'key.json'))
    return
  key, unseen = sheets.write(place, root_of(place), options.gate, options.count, options.seed)
  if unseen:
    print(f'{unseen} clips cannot be decoded any more, and are left out')
  if len(key.items) < options.count:
    print(f'{len(key.items)} clips instead of {options.count}: there are no more to judge')
  print(f'written: {folder}/sheet.html and form.csv for the judges ({len(key.items)} clips); key.json stays with you')
  print(f'then: python -m crosstrainer_jax.curate audit {place} --gate {options.gate} --judged FORM.csv,…')


def recheck(options: argparse.Namespace) -> None:
  """Asks whether the videos can still be seen."""
  from crosstrainer_jax.curation import recheck as checks

  found = checks.recheck(pathlib.Path(options.folder), options.endpoint, options.requests_per_minute)
  print('; '.join(f'{count} videos {state}' for state, count in found.most_common()) or 'no video in the library')


def _parser() -> argparse.ArgumentParser:
  from crosstrainer_jax.curation import recheck as checks
  from crosstrainer_jax.curation import steps, taxonomy
  from crosstrainer_jax.curation.gates import JUDGED

  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.curate', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

  own = verbs.add_parser('sports', help='sports and their skills, by a language model')
  own.add_argument('--backend', choices=tuple(backends.MODELS), default='openai')
  own.add_argument('--sport', action='append', default=[], help='only this one; may be given several times')
  own.add_argument('--count', type=int, default=50, help='of sports (default: %(default)s)')
  own.add_argument('--skills', type=int, default=20, help='of each sport (default: %(default)s)')
  own.add_argument('--output', default='sports.csv', help='(default: %(default)s)')
  backends.add_options(own)
  own.set_defaults(work=sports)

  own = verbs.add_parser('queries', help='searches of sports, skills and connecting words')
  own.add_argument('sports', help='.csv or .jsonl with sport and skill')
  own.add_argument('--words', default=','.join(taxonomy.CONNECTING_WORDS), help='by commas (default: %(default)s)')
  own.add_argument('--results', type=int, default=50, help='of each search, in the example (default: %(default)s)')
  own.add_argument('--videos', default='videos', help='the folder that is to be filled (default: %(default)s)')
  own.add_argument('--output', default='queries.csv', help='(default: %(default)s)')
  own.set_defaults(work=queries)

  _add_run(verbs)

  own = verbs.add_parser('show', help='what a step has left, or dropped')
  own.add_argument('folder', help='of the curation')
  own.add_argument('step', choices=steps.NAMES)
  own.add_argument('-n', '--count', type=int, default=20, help='of lines (default: %(default)s)')
  own.add_argument('--dropped', action='store_true', help='what this step has dropped, and why')
  own.set_defaults(work=show)

  own = verbs.add_parser('audit', help='a sheet for people to judge a gate by, and what they made of it')
  own.add_argument('folder', help='of the curation')
  own.add_argument('--gate', choices=JUDGED, required=True)
  own.add_argument('-n', '--count', type=int, default=200, help='of clips (default: %(default)s)')
  own.add_argument('--seed', type=int, default=0, help='of another draw (default: %(default)s)')
  own.add_argument('--judged', help='forms that people filled in, by commas: prints the precision of the gate')
  own.set_defaults(work=audit)

  own = verbs.add_parser('recheck', help='whether the videos can still be seen; needs the network')
  own.add_argument('folder', help='of the curation')
  own.add_argument('--endpoint', default=checks.ENDPOINT, help='of oEmbed (default: %(default)s)')
  own.add_argument('--requests_per_minute', type=float, default=240.0, help='at most (default: %(default)s)')
  own.set_defaults(work=recheck)

  own = verbs.add_parser('world', help='the how-to world: instructional videos whose truth is known')
  own.add_argument('--output', required=True, help='folder to fill')
  own.add_argument('--videos', type=int, default=400, help='(default: %(default)s)')
  own.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
  own.set_defaults(work=world)
  return parser


def _add_run(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
  from crosstrainer_jax.curation import look, steps
  from crosstrainer_jax.datasets.youtube.transcript import Limits

  limits, windows = Limits(), look.Windows()
  # The options of Beam must not be taken for abbreviations of these.
  own = verbs.add_parser('run', help='from a folder of videos to a library of clips', allow_abbrev=False)
  add = own.add_argument
  add('root', help='folder that yt-dlp has filled')
  add('--output', required=True, help='folder for steps, manifest, report and records')
  add('--sport', default='', help='of videos that neither a table nor a search names')
  add('--skill', default='', help='of these videos')
  add('--table', default='', help='.csv or .jsonl with id, sport and skill of videos')
  add('--queries', default='', help='the list of `curate queries`, whose ids are folders below the root')
  add('--until', choices=steps.NAMES, default=steps.NAMES[-1], help='the last step (default: %(default)s)')
  add('--languages', default=','.join(limits.languages), help='of captions, by commas (default: %(default)s)')
  add(
    '--min_confidence', type=float, default=limits.min_confidence, help='of recognised sentences (default: %(default)s)'
  )
  add('--max_drift', type=float, default=limits.max_drift, help='seconds, of captions (default: %(default)s)')
  for gate, what in (
    ('punctuation', 'puts full stops into recognised speech'),
    ('actionable', 'judges sentences'),
    ('demonstrated', 'looks at frames'),
  ):
    add(f'--{gate}', choices=steps.BACKENDS, default=steps.RULES, help=f'{what} (default: %(default)s)')
  add('--vision_model', default='', help='that looks at frames, where it is another than --model')
  add('--vision_base_url', default='', help='of its server, where it is another than --base_url')
  add('--pixels', type=int, default=336, help='of frames shown to a model, at most (default: %(default)s)')
  add(
    '--before',
    type=float,
    default=windows.before,
    help='seconds of a window before its sentence (default: %(default)s)',
  )
  add('--after', type=float, default=windows.after, help='seconds behind it (default: %(default)s)')
  add('--longest', type=float, default=windows.longest, help='seconds of a window at most (default: %(default)s)')
  add('--shortest', type=float, default=windows.shortest, help='and at least (default: %(default)s)')
  add('--test_fraction', type=float, default=0.2, help='part of the channels for the test split (default: %(default)s)')
  add('--seed', type=int, default=0, help='of that split, and of a model with a temperature (default: %(default)s)')
  records = own.add_argument_group('records')
  records.add_argument('--without_records', action='store_true', help='stop at the manifest')
  records.add_argument('--name', default='library', help='of the dataset (default: %(default)s)')
  records.add_argument('--fps', type=float, default=4.0, help='frames a second (default: %(default)s)')
  records.add_argument('--size', type=int, default=64, help='pixels of the square frames (default: %(default)s)')
  records.add_argument('--fit', choices=('letterbox', 'crop'), default='letterbox', help='(default: %(default)s)')
  records.add_argument('--workers', type=int, default=0, help='videos decoded at a time (default: one per core)')
  backends.add_options(own, without=('seed',))
  add(
    '--beam_options',
    nargs=argparse.REMAINDER,
    help='comes last: Apache Beam does the work, with the options that follow, for example --runner=FlinkRunner',
  )
  own.set_defaults(work=run)


if __name__ == '__main__':
  main()
