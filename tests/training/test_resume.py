"""A run that was killed and goes on is the same run to the bit: the real model, its video, and all that is drawn."""

import jax
import numpy as np
import pytest

from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.training import stages
from crosstrainer_jax.training.checkpoints import Checkpoints


def test_five_and_five_updates_are_ten(config, world, one_device, tmp_path):
  """Adapters, dropout in them and in L, dropped views and names, two tasks in turn, clips that share rows."""
  wet = config.copy_and_resolve_references().unlock()
  wet.decoder.dropout, wet.lora.rank, wet.lora.dropout = 0.1, 2, 0.1
  wet.training.frozen = ('^decoder/(?!.*lora_)',)
  wet.training.update(row_tokens=160, view_dropout=0.3, name_dropout=0.5, save_every=5, log_every=2)
  blueprint, params = stages.build(wet, len(world.words), world.feature_dim, world.video_id, 0, one_device)
  update = stages.make_update(blueprint, params, wet.training, one_device)
  stage = world.stage(pipeline.Task(examples.FEEDBACK, 1), pipeline.Task(examples.ATTRIBUTES, 1))

  def train(directory, updates, step=update, seed=3):
    return stages.train_stage(
      directory,
      'stage1',
      step,
      blueprint,
      params,
      stage,
      world.video,
      wet.training,
      updates,
      mesh=one_device,
      seed=seed,
    )  # fmt: skip

  def killed(state, batch, rate):
    if int(state.step) == 7:
      raise KeyboardInterrupt
    return update(state, batch, rate)

  whole = train(tmp_path / 'whole', 10)
  with pytest.raises(KeyboardInterrupt):
    train(tmp_path / 'killed', 10, killed)
  assert Checkpoints(tmp_path / 'killed' / 'checkpoints').latest() == 5
  again = train(tmp_path / 'killed', 10)
  for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(one, other)
  # what is drawn matters: of another seed the same run is another one
  other = train(tmp_path / 'other', 10, seed=4)
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True))
