"""Which runs stand behind the paper's tables and figures, and that every command for them can be given."""

import json
import subprocess
import sys

from absl.testing import flagsaver

from crosstrainer_jax import paper_plan, settings, sweep
from crosstrainer_jax.configs import sweeps
from crosstrainer_jax.datasets.egoexo4d import taxonomy
from crosstrainer_jax.datasets.qevd import exercises
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.evaluation import published


def test_planned_runs_are_those_of_the_sweep(tmp_path):
  runs = paper_plan.planned_runs('egoexo4d', tmp_path)
  assert [run.name for run in runs] == [run.name for run in sweeps.settings(dataset='egoexo4d').runs]
  by_name = {run.name: run for run in runs}
  assert ('rock climbing', '') in by_name['FS-seed0'].tested
  assert by_name['ZS-3-basketball-seed1'].tested == {
    ('basketball', skill) for skill in ('mikan layup', 'reverse layup', 'mid-range jump shot')
  }
  assert by_name['ZS-1-dribbling-seed0'].tested == {('soccer', 'dribbling')}
  assert all(sport != 'soccer' for sport, _ in by_name['SPORT-soccer-seed0'].tested)
  assert not any(run.done for run in runs)


def test_the_plan_names_what_is_missing_and_how_to_train_it(tmp_path):
  for name in ('done.json', 'report.json'):
    (tmp_path / 'FS-seed0').mkdir(exist_ok=True)
    (tmp_path / 'FS-seed0' / name).write_text('{}')
  text = paper_plan.plan('table 4', 'egoexo4d', tmp_path)
  assert 'needs licensed data: Ego-Exo4D' in text
  assert 'Table 4 left, Ego-Exo4D: 6 runs, 1 finished' in text
  assert (
    'train what is missing (5 runs): python -m crosstrainer_jax.sweep settings --dataset=egoexo4d --paper '
    "--only='^(FS)-'"
  ) in text
  assert text.endswith('python -m crosstrainer_jax.eval --table=4 --dataset=egoexo4d')


def test_every_published_figure_has_a_command_and_runs():
  entries = [json.loads(line) for line in paper_plan.list_published().splitlines()]
  assert len(entries) == len(published.cells())
  for entry in entries:
    assert entry['commands'], entry
    if entry['item'] not in ('table 4 right', 'section 4.4'):
      assert entry['runs'], entry
  one = next(e for e in entries if e['item'] == 'figure 4' and e['setting'] == 'ZS-2' and e['skill'] == 'mikan layup')
  assert one['runs'] == [f'ZS-2-mikan_layup-seed{seed}' for seed in (0, 1, 2)]


# Gives each command of its arguments to its verb, in one process, as a dry run.
DRY_RUNS = """
import shlex, sys
from absl.testing import flagsaver
from crosstrainer_jax import eval, settings
eval.define_flags()
for command in sys.argv[1:]:
  with flagsaver.flagsaver():
    eval.main(settings.parse_flags(['eval', *shlex.split(command)[3:], '--dry-run']))
"""


def test_every_command_can_be_given(tmp_path, monkeypatch, capsys):
  """A dry run of each: flags, configs and names are right, without data and without training."""
  monkeypatch.chdir(tmp_path)
  commands = sorted({command for entry in paper_plan.listed() for command in entry['commands']})
  sweeps_of = [command for command in commands if 'jax.sweep' in command]
  assert len(sweeps_of) == 2
  for command in sweeps_of:
    given = [*command.split()[3:], '--config.encoder.weights=EgoVLPv2.pth', '--config.decoder.weights=Llama']
    with flagsaver.flagsaver():
      sweep.main(settings.parse_flags(['sweep', *given, '--seeds=0', '--dry-run']))
    assert ' 0 done' in capsys.readouterr().out
  shown = [command for command in commands if 'jax.eval' in command and '--setting' not in command]
  assert len(shown) == 8
  run = subprocess.run([sys.executable, '-c', DRY_RUNS, *shown], capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  assert run.stdout.count('then: python -m crosstrainer_jax.eval') == len(shown)
  assert not list(tmp_path.iterdir())


def test_names_are_those_that_the_importers_write():
  """A sweep that holds out a skill by another name than the records' would find no clip."""
  assert {sport: set(skills) for sport, skills in sweeps.SKILLS['qevd'].items()} == {
    sport: set(skills) for sport, skills in exercises.GROUPS.items()
  }
  drills = {taxonomy.skill_of(task, '') for task in (6001, 6002, 6003, 8001, 8002, 8003, 8004, 8005)}
  assert {skill for skills in sweeps.SKILLS['egoexo4d'].values() for skill in skills} <= drills
  assert set(sweeps.SKILLS['egoexo4d']) == {taxonomy.sport_of(task) for task in (6001, 7001, 8001)}
  assert {s: {skill.name for skill in skills} for s, skills in SPORTS.items()} == {
    sport: set(skills) for sport, skills in sweeps.SKILLS['skillsim'].items()
  }
