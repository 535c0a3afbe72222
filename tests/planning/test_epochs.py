"""Updates of a whole run, as the recipe makes them."""

from crosstrainer_jax import settings
from crosstrainer_jax.planning import epochs


def test_every_stage_of_the_recipe_costs():
  config = settings.load_config('configs/cross_sport.py:paper', ['stage2.folds=2', 'stage2.fold_epochs=1.0'])
  first, folds, second = epochs.of_stages(config, clips=1280, seconds=3.0, chips=8)
  # two epochs of ten updates; two folds that each leave half of the clips
  assert (first.updates, folds.updates, second.updates) == (20, 10, 20)
  assert first.seconds == 60
  assert first.chip_minutes == 8
  assert [cost.stage for cost in (first, folds, second)] == ['stage I', '2 folds', 'stage II']


def test_no_folds_cost_nothing():
  config = settings.load_config('configs/cross_sport.py:paper', ['stage2.folds=0', 'stage2.true_ratio=1.0'])
  assert [cost.stage for cost in epochs.of_stages(config, 1280, 3.0, 8)] == ['stage I', 'stage II']
