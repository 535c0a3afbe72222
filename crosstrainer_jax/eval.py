"""python -m crosstrainer_jax.eval: evaluates a trained run again; without arguments the newest under runs/.

    python -m crosstrainer_jax.eval --workdir=runs/cross_sport
    python -m crosstrainer_jax.eval --table=1                         # a table of the paper, from runs of a sweep
    python -m crosstrainer_jax.eval --figure=4 --dataset=egoexo4d     # on other data; --dry-run says what it needs
    python -m crosstrainer_jax.eval --published                       # every published figure, and how to make ours
    python -m crosstrainer_jax.eval --external gemini=answers.jsonl   # another system's answers as one more row
    python -m crosstrainer_jax.eval --human-sheet 30                  # a blinded sheet for human judges
    python -m crosstrainer_jax.eval --judged a.csv,b.csv,c.csv --key runs/cross_sport/human/feedback/key.json

`--human-sheet` takes the predictions that the last evaluation wrote; with `--candidates NAME=FILE.jsonl` it asks of
retrieved clips whether they show how to correct what the expert criticised.
"""

import shlex
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
from absl import flags

from crosstrainer_jax import datasets, human_sheet, paper_plan, provenance, recipe, settings
from crosstrainer_jax.baselines.fine_tuned_retrieval import NAME as FINE_TUNED
from crosstrainer_jax.evaluation import external, human
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.training.telemetry import say


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  flags.DEFINE_string('workdir', None, 'The run to evaluate. Default: the newest one under --runs.')
  flags.DEFINE_string('runs', 'runs', 'Where runs are looked for.')
  flags.DEFINE_string('table', '', 'A table of the paper: 1, 3 or 4.')
  flags.DEFINE_string('figure', '', 'A figure of the paper: 4, 5 or 6.')
  flags.DEFINE_bool('published', False, 'Print every published figure with the command that makes ours, as JSON Lines.')
  flags.DEFINE_string('dataset', 'skillsim', 'For tables and figures: the dataset of the runs.')
  flags.DEFINE_string('sweep_dir', '', 'For tables and figures: where the runs lie. Default: as the sweep has it.')
  flags.DEFINE_multi_string(
    'write', [], 'For tables and figures: a Markdown page to write to, between <!-- eval:table-1 --> and <!-- end -->.'
  )
  flags.DEFINE_bool('dry-run', False, 'For tables and figures: say which runs are needed, and read nothing.')
  flags.DEFINE_string('data_dir', None, 'Where prepared datasets are kept. Default: where the run had its own.')
  flags.DEFINE_multi_string('external', [], 'NAME=FILE.jsonl: answers of another system, a further row; repeatable.')
  flags.DEFINE_integer('human-sheet', 0, 'Writes a blinded sheet of so many clips for human judges.', lower_bound=0)
  flags.DEFINE_list('human-rows', None, f'Rows on that sheet. Default, as far as there are: {", ".join(JUDGED_ROWS)}.')
  flags.DEFINE_multi_string(
    'candidates', [], 'NAME=FILE.jsonl: clips that a system retrieved, for a sheet of retrieval; repeatable.'
  )
  flags.DEFINE_integer('sheet-seed', 0, 'Draws the clips of the sheet and the order of the systems.')
  flags.DEFINE_list('judged', None, 'Forms that judges filled in, CSV; makes a majority vote and needs --key.')
  flags.DEFINE_string('key', None, 'key.json of the sheet that was judged.')


# Rows that a sheet compares, beside the expert's own comment.
JUDGED_ROWS = (recipe.CROSSTRAINER, recipe.END_TO_END, FINE_TUNED, 'nearest neighbour')


def newest_run(runs: str | Path) -> Path:
  """The run under `runs` whose stage II finished last.

  Raises:
    FileNotFoundError: none has.
  """
  finished = sorted(Path(runs).glob(f'**/{recipe.STAGE2}/done.json'), key=lambda path: path.stat().st_mtime)
  finished = [path for path in finished if (path.parent.parent / 'config.json').is_file()]
  if not finished:
    raise FileNotFoundError(
      f'no trained run under {runs}/. Train one: ./launch_tpu.sh configs/cross_sport.py, or name one with --workdir'
    )
  return finished[-1].parent.parent


def dataset_of(workdir: Path, config: ml_collections.ConfigDict, data_dir: str | None) -> Path:
  """The directory of a run's dataset: the one it was trained on where that is still there and no other is asked for."""
  recorded = as_path(provenance.recorded_environment(workdir).get('dataset', ''))
  if data_dir is None and (recorded / 'dataset_info.json').is_file():
    return recorded
  return datasets.prepare(config.data, data_dir or 'runs/datasets')


def write_sheet(
  workdir: Path,
  dataset: Path,
  count: int,
  seed: int,
  rows: Sequence[str] | None = None,
  candidates: Mapping[str, str] = types.MappingProxyType({}),
) -> Path:
  """Writes a sheet for human judges into `human/` of the workdir, from the predictions there; returns its folder.

  Args:
    dataset: directory of the run's dataset.
    count: of clips.
    rows: that are compared; None for `JUDGED_ROWS`.
    candidates: name of a system → file of the clips that it retrieved, where these are to be judged.

  Raises:
    FileNotFoundError, ValueError: no such predictions, or nothing to judge.
  """
  source = ClipSource(dataset)
  references = read_references(workdir / 'predictions' / 'references.jsonl')
  if candidates:
    kind = human_sheet.RETRIEVAL
    found = {name: human_sheet.read_candidates(Path(path), source) for name, path in candidates.items()}
    cases = human_sheet.retrieval_cases(source, references, found, count, seed)
  else:
    kind = human_sheet.FEEDBACK
    files = {name: workdir / 'predictions' / f'{name.replace(" ", "_")}.jsonl' for name in rows or JUDGED_ROWS}
    unknown = [name for name, path in files.items() if not path.is_file()]
    if rows and unknown:
      there = sorted(path.stem for path in (workdir / 'predictions').glob('*.jsonl') if path.stem != 'references')
      raise ValueError(f'--human-rows: {workdir} has no row {unknown[0]!r}; it has {", ".join(there)}')
    chosen = {name: read_predictions(path) for name, path in files.items() if name not in unknown}
    silent = [name for name, row in chosen.items() if all(p.feedback is None for p in row)]
    if silent:
      raise ValueError(f'--human-rows: {silent[0]!r} writes no feedback: there is nothing to judge')
    cases = human_sheet.feedback_cases(source, references, chosen, count, seed)
  folder = workdir / 'human' / kind
  key = human_sheet.write_sheet(folder, cases, kind, seed)
  if len(cases) < count:
    say(f'{len(cases)} clips instead of {count}: there are no more to judge')
  say(f'written: {folder}/sheet.html and form.csv for the judges ({len(key.items)} items); key.json stays with you')
  say(f'then: python -m crosstrainer_jax.eval --judged FORM.csv,… --key {folder}/key.json')
  return folder


def judge(forms: Sequence[str], key_path: str | None) -> human.Judged:
  """Reads what judges filled in, prints it, and writes judged.md and judged.json beside the key."""
  if not key_path:
    raise ValueError('--judged needs the key of the sheet: --key runs/…/human/feedback/key.json')
  key = human.read_key(key_path)
  judged = human.judge(key, *human.read_answers(forms, key))
  folder = Path(key_path).parent
  write_atomically(folder / 'judged.md', judged.to_markdown())
  write_atomically(folder / 'judged.json', judged.to_json())
  judged.print()
  say(f'written: {folder}/judged.md, {folder}/judged.json')
  return judged


def main(argv: list[str]) -> None:
  given = flags.FLAGS
  if given.published:
    say(paper_plan.list_published().rstrip())
    return
  if given.table or given.figure:
    _paper()
    return
  if given.judged:
    judge([*given.judged, *argv[1:]], given.key)
    return
  others = dict(map(external.parse, given.external))
  candidates = dict(map(external.parse, given.candidates))
  count = getattr(given, 'human-sheet')
  if candidates and not count:
    raise ValueError('--candidates are for a sheet: say of how many clips, --human-sheet=30')
  # takes seconds to import, which --help should not
  from crosstrainer_jax import measure
  from crosstrainer_jax.run import open_run

  workdir = as_path(given.workdir) if given.workdir else newest_run(given.runs)
  check(workdir, '--workdir', write=True)
  say(f'Evaluating {workdir}{"" if given.workdir else ", the newest run"}')
  config = provenance.recorded_config(workdir)
  settings.keep_compiled(given.data_dir or 'runs/datasets')
  if not (workdir / recipe.STAGE2 / 'done.json').is_file():
    raise FileNotFoundError(f'{workdir}: stage II is not finished; start its launch command again, it resumes')
  dataset = dataset_of(workdir, config, given.data_dir)
  evaluated = (workdir / 'predictions' / 'references.jsonl').is_file() and (workdir / 'report.json').is_file()
  if others or not count or not evaluated:
    run = open_run(config, workdir, dataset)
    command = shlex.join(['python', '-m', 'crosstrainer_jax.eval', *sys.argv[1:]])
    measure.evaluate(run, command, others).print()
    say(f'written: {workdir}/report.md, {workdir}/report.json, {workdir}/predictions/')
  if count:
    write_sheet(workdir, dataset, count, getattr(given, 'sheet-seed'), getattr(given, 'human-rows'), candidates)


def _paper() -> None:
  """A table or figure of the paper."""
  given = flags.FLAGS
  if given.table and given.figure:
    raise settings.SettingsError('give --table or --figure, not both')
  item = paper_plan.item_of(given.table, given.figure)
  paper_plan.check_dataset(given.dataset)
  folder = paper_plan.sweep_folder(given.dataset, given.sweep_dir)
  if given['dry-run'].value:
    say(paper_plan.plan(item, given.dataset, folder))
  else:
    from crosstrainer_jax import paper_results

    paper_results.publish(item, given.dataset, folder, [Path(page) for page in given.write])


if __name__ == '__main__':
  define_flags()
  settings.run(main)
