"""A finished run read back for scoring."""

import numpy as np
import pytest

from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.finished import read_finished
from crosstrainer_jax.extraction import reading_of
from tests.evaluation.finished_runs import write_run

SKILLS = [('soccer', 'dribbling'), ('basketball', 'mikan layup')]


def test_what_the_run_was_and_its_scores_on_a_part(tmp_path):
  write_run(tmp_path / 'run', 'configs/in_domain.py:seed=2', SKILLS, {'CrossTrainer': 6, 'random': 2})
  run = read_finished(tmp_path / 'run', reading_of)
  assert (run.dataset, run.setting, run.held_out, run.source, run.seed) == ('skillsim', 'FS', '', '', 2)
  assert run.tested == set(SKILLS)
  assert list(run.rows) == ['CrossTrainer', 'random']
  part = run.where(skill='mikan layup')
  np.testing.assert_array_equal(part, run.where(sport='basketball'))
  assert part.sum() == 8
  iou = bootstrap(run.rows['CrossTrainer']['IoU@1.0'].keep(part), run.takes, 10)
  assert (iou.value, iou.n_clips, iou.n_takes) == (75.0, 8, 4)
  assert list(read_finished(tmp_path / 'run', reading_of, ['random']).rows) == ['random']


@pytest.mark.parametrize(
  'names',
  [
    ['IoU@1.0'],
    ['BLEU-4', 'ROUGE-L prefix-kept'],
    ['ROUGE-L masked', 'feedback F1'],
    ['level accuracy', 'attribute F1'],
  ],
)
def test_metrics_that_are_not_wanted_change_nothing(tmp_path, names):
  write_run(tmp_path / 'run', 'configs/in_domain.py:seed=2', SKILLS, {'CrossTrainer': 6})
  every = read_finished(tmp_path / 'run', reading_of).rows['CrossTrainer']
  some = read_finished(tmp_path / 'run', reading_of, metrics=names).rows['CrossTrainer']
  assert set(names) <= set(some) < set(every)
  for name, metric in some.items():
    if isinstance(metric, str):
      assert every[name] == metric
    else:
      np.testing.assert_array_equal(every[name].sums, metric.sums)


def test_a_run_without_predictions_is_named(tmp_path):
  folder = write_run(tmp_path / 'run', 'configs/in_domain.py', SKILLS, {})
  (folder / 'predictions' / 'references.jsonl').unlink()
  with pytest.raises(FileNotFoundError, match='references.jsonl does not exist'):
    read_finished(folder, reading_of)
