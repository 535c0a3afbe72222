"""The real model on clips that share rows, as a job of several processes or of several meshes."""

import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from crosstrainer_jax.input import pipeline
from crosstrainer_jax.training import sharding, stages
from tests.training.processes import Job


def train(
  job: Job,
  note: Any,
  last: bool = False,
  devices: Sequence[jax.Device] | None = None,
  *,
  config: ml_collections.ConfigDict,
  stage: pipeline.Stage,
  video: pipeline.Video,
  until: int | None = None,
) -> Any:
  """The stage in this process, as `processes.train`; it notes [row, clip] of what lies on this process's devices.

  Args:
    until: at this update it is interrupted.
  """
  del last
  mesh = sharding.make_mesh((1, -1, 1), devices)
  clips = {video(index)['features'].tobytes(): index for index in stage.train}
  width = video(stage.train[0])['features'].shape[-1]
  blueprint, params = stages.build(config, stage.encoder.rows, width, stage.encoder.video_id, 0, mesh)
  update = stages.make_update(blueprint, params, config.training, mesh)

  def noted(state: Any, batch: Any, rate: Any) -> Any:
    number, pairs = int(state.step), []
    if number == until:
      raise KeyboardInterrupt
    for shard in batch['features'].addressable_shards:
      for row, seen in enumerate(np.asarray(shard.data), shard.index[0].start or 0):
        pairs += [(row, clips[clip.tobytes()]) for clip in seen if clip.any()]
    note.write(json.dumps([number, pairs]) + '\n')
    note.flush()
    time.sleep(job.pause)
    return update(state, batch, rate)

  with config.unlocked():
    config.training.update(save_every=job.save_every, watchdog=job.watchdog)
  return stages.train_stage(
    job.directory, 'packed', noted, blueprint, params, stage, video, config.training, job.steps, mesh=mesh, seed=3
  )
