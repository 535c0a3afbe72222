"""What a whole run costs: updates of every stage of the recipe, as minutes of all chips together."""

import dataclasses

import ml_collections

from crosstrainer_jax.training import stages


@dataclasses.dataclass(frozen=True)
class Cost:
  """One stage.

  Attributes:
    updates: of it.
    seconds: of them, without evaluation and saving.
    chips: that work meanwhile.
  """

  stage: str
  updates: int
  seconds: float
  chips: int

  @property
  def chip_minutes(self) -> float:
    return self.seconds * self.chips / 60


def of_stages(config: ml_collections.ConfigDict, clips: int, seconds: float, chips: int) -> list[Cost]:
  """Stage I, its folds for predictions out of fold, and stage II, in the order of the recipe.

  Args:
    clips: that train.
    seconds: of an update.
  """
  size = config.training.batch_size
  updates = {'stage I': stages.updates_of(config.stage1.epochs, clips, size)}
  if folds := config.stage2.folds:
    others = clips - clips // folds
    updates[f'{folds} folds'] = folds * stages.updates_of(config.stage2.fold_epochs, others, size)
  updates['stage II'] = stages.updates_of(config.stage2.epochs, clips, size)
  return [Cost(stage, count, count * seconds, chips) for stage, count in updates.items()]
