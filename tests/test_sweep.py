"""The verb `sweep`, with runs that write their report and do nothing else."""

import dataclasses
import json
import re

import pytest
from absl.testing import flagsaver

from crosstrainer_jax import provenance, settings, sweep, sweep_results, train
from crosstrainer_jax.baselines import RETRIEVAL
from crosstrainer_jax.configs import compact, sweeps
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.evaluation import dials, published
from crosstrainer_jax.evaluation.aggregate import aggregate
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report, read_report
from crosstrainer_jax.input.buckets import BucketError
from crosstrainer_jax.run_layout import CROSSTRAINER, END_TO_END, ZEROED

RATE = 'training.optimizer.learning_rate'
PAGE = '# Page\n\n<!-- sweep:transfer -->\nold\n<!-- end -->\n\nbetween\n\n<!-- sweep:dials -->\n<!-- end -->\n'


@pytest.fixture
def runs(monkeypatch, tmp_path):
  """Works in an empty folder; the list of runs that were started, by folder. `started.broken` maps names to errors."""
  monkeypatch.chdir(tmp_path)

  class Started(list):
    broken: dict[str, BaseException] = {}

  started = Started()

  def run(config, workdir, data_dir, command):
    started.append(workdir.name)
    provenance.record_environment(workdir, config, {})
    if workdir.name in started.broken:
      raise started.broken[workdir.name]
    report = report_of(config, command)
    report.write(workdir)
    (workdir / 'done.json').write_text(f'{{"seconds": {100.0 + len(started)}}}\n')
    return report

  monkeypatch.setattr(train, 'run', run)
  return started


def report_of(config, command):
  """Scores that follow from the config: a sport's place, its seed and the dials."""
  world = config.data.skillsim
  score = 10.0 * list(SPORTS).index(config.split.held_out) + config.seed
  gap = 5 - 10 * world.entanglement - world.camera_shift
  rows = {CROSSTRAINER: (score, score / 2), END_TO_END: (score - gap, 1), 'linear classifier on v': (1, 1)}
  columns = ['attribute F1', 'feedback F1', 'BLEU-4']

  def scored(*values):
    return {
      f'{scope}/{column}': Interval(value, value - 1, value + 1, 10, 5)
      for scope in ('headline', 'all')
      for column, value in zip(columns, values, strict=False)
    }

  return Report(
    'skillsim', 'ZS-3', config.split.held_out, config.seed, command, '1 × cpu', 400, 380, 240, columns,
    rows={name: scored(*values) for name, values in rows.items()}, differences={dials.DIFFERENCE: scored(gap, gap / 2)},
  )  # fmt: skip


def verb(*arguments):
  with flagsaver.flagsaver():
    sweep.main(settings.parse_flags(['sweep', *arguments]))


def test_transfer_holds_out_every_sport():
  """The sports of the sweep are those of the world, and what `dials` compares is what a report compares."""
  assert set(sweeps.SPORTS) == set(SPORTS)
  assert len(sweeps.transfer().runs) == 12
  assert f'{CROSSTRAINER} − {END_TO_END}' == dials.DIFFERENCE


def test_the_runs_of_transfer_are_among_those_of_settings():
  assert set(sweeps.transfer().runs) < set(sweeps.settings().runs)
  others = set(sweeps.settings().runs) - set(sweeps.transfer().runs)
  assert not [run.name for run in others if run.name.startswith('ZS-3')]
  assert sweeps.transfer().folder == 'settings'


def test_dials_have_three_values_and_share_the_default(tmp_path):
  defaults = compact.preset().data.skillsim
  for dial, values in sweeps.DIALS.items():
    assert len(values) == 3
    assert defaults[dial] in values
  planned = sweep.plan(sweeps.dials(), tmp_path)
  worlds = [tuple(run.config.data.skillsim[dial] for dial in sweeps.DIALS) for run in planned]
  assert len(set(worlds)) == len(worlds) == 7
  assert all(run.config.eval.rows == (END_TO_END,) for run in planned)


def test_studies_change_one_condition_at_a_time(tmp_path):
  planned = sweep.plan(sweeps.studies(seeds=['0']), tmp_path)
  assert len(planned) == len(sweeps.STUDIES)
  flat = [settings.flatten(run.config) for run in planned]
  changed = [{key for key in base if base[key] != other[key]} for base, other in [(flat[0], one) for one in flat]]
  assert [len(keys) for keys in changed] == [0] + [1] * (len(planned) - 1)


def test_studies_are_summed_up(runs, tmp_path, capsys):
  (tmp_path / 'page.md').write_text('<!-- sweep:studies -->\n<!-- end -->\n')
  verb('studies', '--seeds=0,1', '--write=page.md')
  assert len(runs) == 2 * len(sweeps.STUDIES)
  text = (tmp_path / 'page.md').read_text()
  assert f'ZS-3; {len(runs)} runs.' in text
  assert '| one view | ' in text
  assert '(+0.0 [+0.0, +0.0])' in text


def test_dry_run_prints_the_plan_and_does_nothing(runs, tmp_path, capsys):
  verb('transfer', '--seeds=0,1', '--dry-run')
  out = capsys.readouterr().out
  assert 'Sweep transfer: 8 runs in runs/sweeps/settings, 0 done, 8 to do.' in out
  assert 'about 8 min a run (a guess until one is done)' in out
  assert 'to do         ZS-3-rock_climbing-seed1  ' in out
  assert "./launch_tpu.sh 'configs/cross_sport.py:held_out=rock climbing,seed=1'" in out
  assert runs == []
  assert list(tmp_path.iterdir()) == []


def test_transfer_writes_summary_and_pages(runs, tmp_path, capsys):
  (tmp_path / 'docs').mkdir()
  results, readme = tmp_path / 'docs' / 'results.md', tmp_path / 'README.md'
  results.write_text(PAGE)
  readme.write_text(PAGE.replace('sweep:transfer', 'sweep:transfer: feedback F1'))
  verb('transfer', '--seeds=0,1', '--config.stage1.epochs=1', '--write=docs/results.md', '--write=README.md')
  assert len(runs) == 8
  out = capsys.readouterr().out
  assert re.search(
    r'=== ZS-3-soccer-seed1 \(2 of 8\): 0 s, CrossTrainer attribute F1 1\.0; 6 runs left, about 10 min', out
  ), out
  folder = tmp_path / 'runs' / 'sweeps' / 'settings'
  assert provenance.recorded_config(folder / 'ZS-3-fitness-seed1').stage1.epochs == 1.0
  assert read_report(folder / 'ZS-3-fitness-seed1' / 'report.json').command == (
    './launch_tpu.sh configs/cross_sport.py:held_out=fitness,seed=1 '
    '\'--config.eval.rows=("end to end without attributes", "fine-tuned retrieval", "attribute retrieval")\' '
    '--config.stage1.epochs=1'
  )
  # the language prior is trained with one seed
  assert [provenance.recorded_config(folder / f'ZS-3-soccer-seed{seed}').eval.rows for seed in (0, 1)] == [
    (END_TO_END, ZEROED, *RETRIEVAL),
    (END_TO_END, *RETRIEVAL),
  ]
  summary = json.loads((folder / 'summary.json').read_text())
  assert summary['rows'][CROSSTRAINER]['headline/attribute F1']['mean'] == pytest.approx(15.5)
  page = results.read_text()
  assert page.startswith('# Page\n\n<!-- sweep:transfer -->\n\nZS-3 · 8 runs')
  assert page.endswith('\n<!-- end -->\n\nbetween\n\n<!-- sweep:dials -->\n<!-- end -->\n')
  assert 'old' not in page
  for said in (
    '`python -m crosstrainer_jax.sweep transfer --seeds=0,1 --config.stage1.epochs=1`\n',
    'Hardware: 1 × cpu',
    'soccer: 400 clips, 240 with a fault, in 380 takes',
    'Seeds of training: 0, 1. Median time of a run: 104 s.',
    'Commit: ',
    '| CrossTrainer | 15.5 [',
  ):
    assert said in page, page
  assert '| BLEU-4 |' in page
  assert '| | feedback F1 |\n' in readme.read_text()
  assert 'BLEU-4' not in readme.read_text()
  again = results.read_text()
  verb('transfer', '--seeds=0,1', '--config.stage1.epochs=1', '--write=docs/results.md')
  assert results.read_text() == again
  assert len(runs) == 8


def test_kshot_goes_on_from_its_own_zero_shot_run(runs, tmp_path, capsys):
  (tmp_path / 'page.md').write_text('<!-- sweep:kshot -->\n<!-- end -->\n')
  verb('kshot', '--seeds=0,1', '--smoke', '--write=page.md', '--sweep_dir=k')
  assert runs == [f'soccer-seed{seed}-shots={rest}' for seed in (0, 1)
                  for rest in ('0', '4-transfer', '4-scratch', '12-transfer', '12-scratch')]  # fmt: skip
  transfer, scratch, first = (
    provenance.recorded_config(tmp_path / 'k' / f'soccer-seed1-shots={rest}')
    for rest in ('12-transfer', '12-scratch', '0')
  )
  assert transfer.init.from_run == str(tmp_path / 'k' / 'soccer-seed1-shots=0')
  assert (scratch.init.from_run, first.init.from_run, first.split.setting) == ('', '', 'ZS-3')
  for config in (transfer, scratch):
    assert (config.split.setting, config.split.shots, config.split.held_out, config.seed) == ('K-shot', 12, 'soccer', 1)
  page = (tmp_path / 'page.md').read_text()
  assert '| 4 clips |' in page
  assert '![F1 over the number of labelled clips](kshot.png)' in page
  assert (tmp_path / 'kshot.png').is_file()
  assert 'written: kshot.png' in capsys.readouterr().out


def test_fewer_clips_are_passed_more_often(tmp_path):
  """The ways of one number of clips differ in where they begin alone; 10 clips get the updates of 400."""
  planned = {run.name: run.config for run in sweep.plan(sweeps.kshot(seeds=('0',)), tmp_path)}
  assert len(sweeps.kshot().runs) == 27
  defaults = compact.preset()
  for shots, passes in ((10, 40), (200, 2), (1000, 1)):
    ways = [planned[f'soccer-seed0-shots={shots}-{start}'] for start in ('transfer', 'scratch')]
    for config in ways:
      assert config.stage1.epochs == passes * defaults.stage1.epochs
      assert config.stage2.fold_epochs == passes * defaults.stage2.fold_epochs
    first, second = map(settings.flatten, ways)
    assert [name for name in first if first[name] != second[name]] == ['init.from_run', RATE]
    assert (first[RATE], second[RATE]) == (settings.flatten(defaults)[RATE] / 4, settings.flatten(defaults)[RATE])


def test_what_is_done_is_skipped_and_gives_the_time(runs, capsys):
  verb('transfer', '--held_out=soccer', '--seeds=0')
  capsys.readouterr()
  verb('transfer', '--held_out=soccer,fitness', '--seeds=0')
  out = capsys.readouterr().out
  assert runs == ['ZS-3-soccer-seed0', 'ZS-3-fitness-seed0']
  assert '2 runs in runs/sweeps/settings, 1 done, 1 to do' in out
  assert 'about 2 min a run (median of the 1 that are done), 3 min in all, 2 min left' in out
  assert 'done 101 s    ZS-3-soccer-seed0' in out


def test_parts_make_the_whole(runs, tmp_path, capsys):
  (tmp_path / 'page.md').write_text(PAGE)
  verb('transfer', '--seeds=0', '--only=soccer|fit', '--write=page.md')
  assert runs == ['ZS-3-soccer-seed0', 'ZS-3-fitness-seed0']
  out = capsys.readouterr().out
  assert 'Of these only: ZS-3-soccer-seed0, ZS-3-fitness-seed0.' in out
  assert 'page.md left as before: 2 of 4 runs are missing' in out
  verb('transfer', '--seeds=0', '--write=page.md')
  assert runs[2:] == ['ZS-3-basketball-seed0', 'ZS-3-rock_climbing-seed0']
  assert 'ZS-3 · 4 runs' in (tmp_path / 'page.md').read_text()


def test_a_failed_run_is_recorded_and_tried_again(runs, tmp_path, capsys):
  (tmp_path / 'page.md').write_text(PAGE)
  runs.broken = {'ZS-3-soccer-seed1': RuntimeError('out of memory\nand so on')}
  with pytest.raises(SystemExit) as stopped:
    verb('transfer', '--held_out=soccer', '--write=page.md')
  assert stopped.value.code == 1
  assert runs == ['ZS-3-soccer-seed0', 'ZS-3-soccer-seed1', 'ZS-3-soccer-seed2']
  out = capsys.readouterr().out
  assert '1 of 3 runs failed:\n  ZS-3-soccer-seed1: RuntimeError: out of memory' in out
  assert 'page.md left as before: 1 of 3 runs are missing' in out
  assert (tmp_path / 'page.md').read_text() == PAGE
  failed = tmp_path / 'runs/sweeps/settings/ZS-3-soccer-seed1/failed.txt'
  assert 'RuntimeError: out of memory' in failed.read_text()

  runs.broken = {}
  verb('transfer', '--held_out=soccer', '--write=page.md')
  assert runs[3:] == ['ZS-3-soccer-seed1']
  assert 'failed before ZS-3-soccer-seed1' in capsys.readouterr().out
  assert not failed.exists()
  assert 'old' not in (tmp_path / 'page.md').read_text()


def test_an_interrupt_ends_the_sweep_which_goes_on_later(runs, capsys):
  runs.broken = {'ZS-3-soccer-seed1': KeyboardInterrupt()}
  with pytest.raises(KeyboardInterrupt):
    verb('transfer', '--held_out=soccer')
  assert runs == ['ZS-3-soccer-seed0', 'ZS-3-soccer-seed1']
  runs.broken = {}
  verb('transfer', '--held_out=soccer')
  assert runs[2:] == ['ZS-3-soccer-seed1', 'ZS-3-soccer-seed2']
  assert 'begun         ZS-3-soccer-seed1' in capsys.readouterr().out


def test_dials_write_table_and_plots(runs, tmp_path, capsys):
  pytest.importorskip('matplotlib', reason='the extra `plot` is not installed')
  (tmp_path / 'docs').mkdir()
  (tmp_path / 'docs' / 'results.md').write_text(PAGE)
  (tmp_path / 'README.md').write_text(PAGE)
  verb('dials', '--held_out=fitness', '--write=docs/results.md', '--write=README.md')
  assert len(runs) == 7
  page = (tmp_path / 'docs' / 'results.md').read_text()
  assert '| entanglement 1 | -5.0 [-6.0, -4.0] | -2.5 [-3.5, -1.5] |' in page
  assert page.count('| +2.0 [1.0, 3.0] | +1.0 [0.0, 2.0] |') == 5  # the defaults of three dials, and two kinds of noise
  assert (
    'Behind (the whole interval is below 0): attribute F1 at entanglement 1, feedback F1 at entanglement 1.' in page
  )
  assert 'ZS-3, held out: fitness; seed 0; 7 runs.' in page
  assert '(dials-camera-shift.png)' in page
  assert '(docs/dials-camera-shift.png)' in (tmp_path / 'README.md').read_text()
  assert len(list((tmp_path / 'docs').glob('dials-*.png'))) == 3
  values = json.loads((tmp_path / 'runs/sweeps/dials/summary.json').read_text())
  assert len(values) == 3 * 3 * 2


def test_dials_wait_for_all_runs(runs, tmp_path, capsys):
  pytest.importorskip('matplotlib', reason='the extra `plot` is not installed')
  runs.broken = {'soccer-seed0': ValueError('no')}
  with pytest.raises(SystemExit):
    verb('dials')
  assert 'No summary: 1 of 7 runs are missing.' in capsys.readouterr().out
  assert not list(tmp_path.rglob('*.png'))


def test_smoke_runs_lie_apart(runs, tmp_path):
  verb('transfer', '--held_out=soccer', '--seeds=3', '--smoke')
  config = provenance.recorded_config(tmp_path / 'runs/sweeps/settings-smoke/ZS-3-soccer-seed3')
  assert config.data.skillsim.train_clips == 48
  assert config.seed == 3


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'name one sweep, transfer or dials or settings or kshot or studies, not none'),
    (['transfers'], 'name one sweep'),
    (['transfer', '--config=configs/in_domain.py'], '--config is for train'),
    (['transfer', '--workdir=runs/x'], '--workdir is for train'),
    (['transfer', '--config.seed=3'], 'the sweep decides seed itself'),
    (['dials', '--config.data.skillsim.entanglement=1'], 'decides data.skillsim.entanglement'),
    (['dials', '--config.eval.rows=()'], 'decides eval.rows'),
    (['transfer', '--config.stage1.epoch=3'], 'unknown setting --config.stage1.epoch'),
    (['transfer', '--held_out=tennis'], 'tennis'),
    (['transfer', '--seeds=a'], 'seed is an integer'),
    (['transfer', '--seeds=1,1'], 'named twice: ZS-3-soccer-seed1'),
    (['transfer', '--only=tennis'], 'is found in no name of a run: ZS-3-soccer-seed0'),
    (['transfer', '--only=('], '--only=( is no regular expression'),
    (['transfer', '--sweep_dir=gs://b/x'], '--sweep_dir gs://b/x: this must lie on this machine'),
    (['transfer', '--write=none.md'], 'there is no page none.md'),
    (['transfer', '--write=empty.md'], 'put the lines <!-- sweep:transfer --> and <!-- end -->'),
  ],
)
def test_wrong_calls_are_refused_before_any_run(runs, tmp_path, arguments, message):
  (tmp_path / 'empty.md').write_text('no block\n')
  with pytest.raises((settings.SettingsError, FileNotFoundError, BucketError), match=re.escape(message)):
    verb(*arguments)
  assert runs == []


def test_done_runs_of_another_config_are_refused(runs):
  verb('transfer', '--held_out=soccer', '--seeds=0')
  with pytest.raises(
    settings.SettingsError, match=r'another config \(eval.resamples: 1000 → 10\).* another --sweep_dir'
  ):
    verb('transfer', '--held_out=soccer', '--seeds=0', '--config.eval.resamples=10')
  verb('transfer', '--held_out=soccer', '--seeds=0', '--config.eval.resamples=10', '--sweep_dir=elsewhere')
  assert len(runs) == 2


def test_an_unknown_column_is_named(runs, tmp_path):
  (tmp_path / 'page.md').write_text(PAGE.replace('sweep:transfer', 'sweep:transfer: atribute F1'))
  with pytest.raises(settings.SettingsError, match='did you mean attribute F1'):
    verb('transfer', '--held_out=soccer', '--seeds=0', '--write=page.md')


def test_a_block_without_its_end_swallows_no_other(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('<!-- sweep:transfer -->\n\n<!-- sweep:dials -->\n<!-- end -->\n')
  with pytest.raises(settings.SettingsError, match='has no place'):
    sweep.replace_block(page, 'sweep:transfer', lambda columns, folder: 'text')


def test_shipped_page_has_every_block():
  page = provenance.PACKAGE.parent / 'docs' / 'results.md'
  if not page.is_file():
    pytest.skip('not a checkout')
  for marker in (
    'sweep:transfer',
    'sweep:dials',
    'sweep:kshot',
    'sweep:studies',
    *(f'eval:{item.replace(" ", "-")}' for item in published.ITEMS),
  ):
    sweep.replace_block(page, marker, lambda columns, folder: None)


def test_local_changes_show_in_the_origin(runs, tmp_path):
  verb('transfer', '--held_out=soccer', '--seeds=0')
  [run] = sweep.plan(sweeps.transfer(['soccer'], ['0']), tmp_path / 'runs/sweeps/settings')
  path = run.workdir / 'environment.json'
  for dirty, text in ((True, 'Commit: abc with local changes.'), (False, 'Commit: abc.')):
    path.write_text(json.dumps(json.loads(path.read_text()) | {'commit': 'abc', 'dirty': dirty}))
    assert sweep_results.origin([run])[-1] == text
  assert dataclasses.replace(run, workdir=tmp_path).done is False


def test_the_report_of_the_main_job_serves_both_sweeps(small_run):
  run = sweep.Run('soccer-seed0', provenance.recorded_config(small_run), small_run, 'the command')
  assert run.done
  assert run.seconds > 1
  found = dials.gaps(sweep_results.grid_of([run]))
  assert {(gap.dial, gap.score) for gap in found} == {(dial, score) for dial in sweeps.DIALS for score in dials.SCORES}
  assert {'attribute F1', 'feedback F1'} <= set(aggregate([run.report()]).columns)
  assert sweep_results.origin([run])[0].startswith('Scored: soccer: 4 clips, ')
