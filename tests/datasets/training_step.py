"""One update of feedback on a prepared dataset, with the smallest model: where the tests of importers end."""

import pathlib

import jax
import numpy as np
from flax import nnx

from crosstrainer_jax import settings
from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.run import Run, open_run
from crosstrainer_jax.training import stages


def one_update(dataset: pathlib.Path, workdir: pathlib.Path, *overrides: str) -> Run:
  """Opens a run on the dataset's directory and trains once; asserts that the adapters moved and nothing is broken.

  Args:
    overrides: settings of the config, as `split.held_out=soccer`.
  """
  config = settings.load_config(
    'configs/in_domain.py:smoke',
    [
      f'data.dataset={dataset.parent.name}',
      'training.batch_size=8',
      'decoder.num_layers=1',
      'split.validation_share=0.0',
      'training.evaluate_every=0',
      *overrides,
    ],
  )
  run = open_run(config, workdir, dataset)
  stage = pipeline.Stage(
    run.clips, run.split.train, [pipeline.Task(examples.FEEDBACK, 1)], run.text, 0.0, run.seconds, 0.0
  )
  trained = stages.train_stage(
    workdir / 'stage',
    'stage',
    run.update,
    run.blueprint,
    run.initial,
    stage,
    run.video,
    config.training,
    1,
    mesh=run.mesh,
    seed=0,
  )
  before, after = (
    jax.tree.leaves(nnx.to_pure_dict(run.blueprint.split(params)[0])) for params in (run.initial, trained)
  )
  moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
  assert any(moved)
  assert all(np.isfinite(leaf).all() for leaf in after)
  return run
