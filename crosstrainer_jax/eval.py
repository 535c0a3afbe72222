"""python -m crosstrainer_jax.eval: evaluates a trained run again; without arguments the newest under runs/.

    python -m crosstrainer_jax.eval --workdir=runs/cross_sport
    python -m crosstrainer_jax.eval --backend openai --base_url http://127.0.0.1:8000/v1 --model NAME
    python -m crosstrainer_jax.eval --table=1                         # a table of the paper, from runs of a sweep
    python -m crosstrainer_jax.eval --figure=4 --dataset=egoexo4d     # on other data; --dry-run says what it needs
    python -m crosstrainer_jax.eval --published                       # every published figure, and how to make ours
    python -m crosstrainer_jax.eval --setting=wild DIR --sport=frisbee   # videos with a coach's narration
    python -m crosstrainer_jax.eval --setting=wild DIR --human-sheet 30   # and the sheet for judges of these
    python -m crosstrainer_jax.eval --external gemini=answers.jsonl   # another system's answers as one more row
    python -m crosstrainer_jax.eval --human-sheet 30                  # a blinded sheet for human judges
    python -m crosstrainer_jax.eval --judged a.csv,b.csv,c.csv --key runs/cross_sport/human/feedback/key.json

`--human-sheet` takes the predictions that the last evaluation wrote, of videos in the wild with `--setting=wild`; with
`--candidates NAME=FILE.jsonl` it asks of retrieved clips whether they show how to correct what the expert criticised.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
from absl import flags

from crosstrainer_jax import backends, datasets, provenance, run_layout, settings
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.training.telemetry import say

if TYPE_CHECKING:
  from crosstrainer_jax.discovery.asking import Asker
  from crosstrainer_jax.inference.zero_shot import ZeroShot
  from crosstrainer_jax.pictures import Picture

# Of the server, and of what it is shown; the names and defaults are those of `assess`.
VLM_FLAGS: dict[str, tuple[str | int | float, str]] = {
  'model': ('', 'as the server calls it.'),
  'base_url': ('', "address of the server, up to /v1; default: OpenAI's own."),
  'api_key_env': (backends.KEY, 'environment variable with the key.'),
  'concurrency': (4, 'calls at the same time.'),
  'requests_per_minute': (0.0, 'at most; 0 for no limit.'),
  'timeout': (120.0, 'seconds of one call.'),
  'answers': ('', 'file in which answers are kept.'),
  'frames': (8, 'shown of each view, at most.'),
  'fps': (1.0, 'frames shown of a second.'),
  'pixels': (448, 'height and width of a frame, at most.'),
  'views': (1, 'shown, at most.'),
}


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
  flags.DEFINE_enum('setting', '', ('', 'wild'), 'wild: on a folder of single-view videos with narration (yt-dlp).')
  flags.DEFINE_string('sport', '', 'With --setting=wild: the sport of all videos.')
  flags.DEFINE_string('sport_table', '', 'With --setting=wild: .csv or .jsonl with id and sport of each video.')
  flags.DEFINE_enum(
    'backend',
    '',
    ('', *backends.MODELS),
    'The row zero-shot VLM: any vision-language model behind a server, or a directory of Qwen2.5-VL.',
  )
  for name, (default, meaning) in VLM_FLAGS.items():
    define: Any = {str: flags.DEFINE_string, int: flags.DEFINE_integer, float: flags.DEFINE_float}[type(default)]
    define(name, default, f'With --backend: {meaning}')
  flags.DEFINE_string('judge', '', 'A language model of that server rates all feedback, 1 to 5: its name there.')
  flags.DEFINE_multi_string(
    'timed', [], 'NAME=FILE.jsonl: feedback with times of its own, scored as QEVD does; repeatable.'
  )
  flags.DEFINE_string('submission', '', "A file for Ego-Exo4D's benchmark of proficiency; needs --test_list.")
  flags.DEFINE_string('test_list', '', 'proficiency_demonstrator_test.json, or a text file with a take in each line.')
  flags.DEFINE_enum('submission_form', 'logits', ('logits', 'labels'), 'Form of the submission.')
  flags.DEFINE_bool('estimate', False, 'With --backend: print calls and tokens, and ask nothing.')
  flags.DEFINE_multi_string('external', [], 'NAME=FILE.jsonl: answers of another system, a further row; repeatable.')
  flags.DEFINE_integer('human-sheet', 0, 'Writes a blinded sheet of so many clips for human judges.', lower_bound=0)
  flags.DEFINE_list('human-rows', None, 'Rows on that sheet. Default: CrossTrainer and its rivals, of those there are.')
  flags.DEFINE_multi_string(
    'candidates', [], 'NAME=FILE.jsonl: clips that a system retrieved, for a sheet of retrieval; repeatable.'
  )
  flags.DEFINE_integer('sheet-seed', 0, 'Draws the clips of the sheet and the order of the systems.')
  flags.DEFINE_list('judged', None, 'Forms that judges filled in, CSV; makes a majority vote and needs --key.')
  flags.DEFINE_string('key', None, 'key.json of the sheet that was judged.')


def newest_run(runs: str | Path) -> Path:
  """The run under `runs` whose stage II finished last.

  Raises:
    FileNotFoundError: none has.
  """
  finished = sorted(Path(runs).glob(f'**/{run_layout.STAGE2}/done.json'), key=lambda path: path.stat().st_mtime)
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


def main(argv: list[str]) -> None:
  given = flags.FLAGS
  if given.published:
    from crosstrainer_jax import paper_plan

    say(paper_plan.list_published().rstrip())
    return
  if given.table or given.figure:
    _paper()
    return
  if given.setting:
    _wild(argv[1:])
    return
  # what is imported below takes seconds, which --help should not
  if given.judged:
    from crosstrainer_jax import judging

    judging.judge([*given.judged, *argv[1:]], given.key)
    return
  from crosstrainer_jax.evaluation import external

  others = dict(map(external.parse, given.external))
  candidates = dict(map(external.parse, given.candidates))
  count = getattr(given, 'human-sheet')
  if candidates and not count:
    raise ValueError('--candidates are for a sheet: say of how many clips, --human-sheet=30')
  from crosstrainer_jax import level_submission, measure, timed
  from crosstrainer_jax.baselines import zero_shot
  from crosstrainer_jax.baselines.prediction import Reference
  from crosstrainer_jax.input.source import ClipSource
  from crosstrainer_jax.pictures import ClipPictures
  from crosstrainer_jax.run import open_run

  workdir = as_path(given.workdir) if given.workdir else newest_run(given.runs)
  check(workdir, '--workdir', write=True)
  say(f'Evaluating {workdir}{"" if given.workdir else ", the newest run"}')
  config = provenance.recorded_config(workdir)
  settings.keep_compiled(given.data_dir or 'runs/datasets')
  if not (workdir / run_layout.STAGE2 / 'done.json').is_file():
    raise FileNotFoundError(f'{workdir}: stage II is not finished; start its launch command again, it resumes')
  dataset = dataset_of(workdir, config, given.data_dir)
  if given.timed:
    found = timed.evaluate(workdir, dataset, config, dict(map(external.parse, given.timed)))
    found.write(workdir)
    found.print()
    say(f'written: {workdir}/timed.md, {workdir}/timed.json')
    return
  if given.submission:
    run = open_run(config, workdir, dataset)
    written = level_submission.write(run, given.submission, given.test_list, given.submission_form)
    say(f'written: {written}, for the takes of {given.test_list}')
    return
  evaluated = (workdir / 'predictions' / 'references.jsonl').is_file() and (workdir / 'report.json').is_file()
  if others or not count or not evaluated:
    run = open_run(config, workdir, dataset)
    vlm = _vlm(config)
    if vlm is not None and given.estimate:
      references = [Reference.from_clip(run.clips[i]) for i in run.split.test]
      say(zero_shot.estimate(vlm, run.source, run.split.test, references))
      return
    command = shlex.join(['python', '-m', 'crosstrainer_jax.eval', *sys.argv[1:]])
    measure.evaluate(run, command, others, vlm, _judge()).print()
    say(f'written: {workdir}/report.md, {workdir}/report.json, {workdir}/predictions/')
  if count:
    _sheet(workdir, ClipPictures(ClipSource(dataset)), candidates)


def _sheet(folder: Path, pictures: Mapping[str, Picture], candidates: Mapping[str, str]) -> None:
  """A sheet for human judges of the predictions in `folder`."""
  from crosstrainer_jax import judging

  count, seed, rows = (getattr(flags.FLAGS, name) for name in ('human-sheet', 'sheet-seed', 'human-rows'))
  judging.write_sheet(folder, pictures, count, seed, rows, candidates)


def _judge() -> Asker | None:
  """The language model that rates feedback."""
  given = flags.FLAGS
  if not given.judge:
    return None
  values = {name: getattr(given, name) for name in VLM_FLAGS} | {'model': given.judge}
  asker = backends.open_asker('openai', backends.ModelSettings.of(values))
  say(f'judging feedback: {backends.describe(asker)}')
  return asker


def _wild(folders: Sequence[str]) -> None:
  """A run on a folder of videos in the wild."""
  given = flags.FLAGS
  if len(folders) != 1:
    raise settings.SettingsError('--setting=wild takes one folder of videos, as yt-dlp makes it')
  if given.candidates:
    raise settings.SettingsError(
      '--candidates are clips of the run’s dataset: they cannot be judged with --setting=wild'
    )
  from crosstrainer_jax import wild
  from crosstrainer_jax.datasets.youtube.source import YouTube

  workdir = as_path(given.workdir) if given.workdir else newest_run(given.runs)
  check(workdir, '--workdir', write=True)
  folder, count = wild.folder_of(workdir, folders[0]), getattr(given, 'human-sheet')
  if not count or not (folder / 'report.json').is_file():
    source = YouTube(folders[0], given.sport, table=given.sport_table)
    say(f'Evaluating {workdir}{"" if given.workdir else ", the newest run"}, on {folders[0]}')
    settings.keep_compiled(given.data_dir or 'runs/datasets')
    dataset = dataset_of(workdir, provenance.recorded_config(workdir), given.data_dir)
    command = shlex.join(['python', '-m', 'crosstrainer_jax.eval', *sys.argv[1:]])
    wild.evaluate(workdir, dataset, source, command).print()
  if count:
    _sheet(folder, wild.pictures(folder, folders[0]), {})


def _vlm(config: ml_collections.ConfigDict) -> ZeroShot | None:
  """The vision-language model that the flags name."""
  given = flags.FLAGS
  values = {name: getattr(given, name) for name in VLM_FLAGS}
  if not given.backend:
    changed = [name for name, (default, _) in VLM_FLAGS.items() if values[name] != default]
    if (changed and not given.judge) or given.estimate:
      raise settings.SettingsError(f'--{(changed or ["estimate"])[0]} is for --backend, which was not given')
    return None
  from crosstrainer_jax.inference.zero_shot import Eyes, ZeroShot

  asker = backends.open_seeing_asker(given.backend, backends.ModelSettings.of(values))
  eyes = Eyes(given.frames, given.fps, given.pixels, given.views)
  say(f'{backends.describe(asker)}; it is shown {eyes}')
  return ZeroShot(asker, eyes, config.prompt.k)


def _paper() -> None:
  """A table or figure of the paper."""
  given = flags.FLAGS
  if given.table and given.figure:
    raise settings.SettingsError('give --table or --figure, not both')
  from crosstrainer_jax import paper_plan

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
