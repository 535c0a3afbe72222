"""python -m crosstrainer_jax.pretrain: trains the video encoder on generic motion and writes its weights."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags
from flax import nnx

from crosstrainer_jax import settings
from crosstrainer_jax.datasets.skillsim import generic
from crosstrainer_jax.input.buckets import on_this_machine
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.models import encoders
from crosstrainer_jax.provenance import claim_workdir
from crosstrainer_jax.training import optimizer, pretraining, sharding, watchdog
from crosstrainer_jax.training.checkpoints import Checkpoints
from crosstrainer_jax.training.ledger import TimeLedger
from crosstrainer_jax.training.loop import fit
from crosstrainer_jax.training.profiling import Profiler
from crosstrainer_jax.training.step import init_state, make_step
from crosstrainer_jax.training.telemetry import MetricWriter, say


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  settings.define_config_flag('configs/pretrain_encoder.py')
  flags.DEFINE_string('workdir', 'runs/pretrain_encoder', 'Checkpoints, TensorBoard logs and the weights go here.')


def main(argv: list[str]) -> None:
  del argv
  config = settings.config_from_flags()
  workdir = on_this_machine(flags.FLAGS.workdir, '--workdir')
  claim_workdir(workdir, config, {'data_fingerprint': f'generic motion, seed {config.seed}'})
  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)

  encoder_config, encoder = encoders.build(config.encoder.name, config.encoder.model.to_dict(), config.seed)
  model = pretraining.Pretrainer(
    encoder,
    encoder_config.frames_per_token,
    encoder_config.feature_dim,
    len(generic.TARGET_NAMES),
    nnx.Rngs(config.seed + 1),
  )
  graph, params = nnx.split(model, nnx.Param)
  params = jax.device_put(params, sharding.replicated(mesh))
  mean, deviation = pretraining.target_statistics(generic.batch_targets(config.seed + 1, range(512)))
  pixels = [column for column, name in enumerate(generic.TARGET_NAMES) if name.startswith('pixel ')]
  weights = target_weights(generic.TARGET_NAMES, config.emphasis)
  loss = pretraining.make_loss(
    graph, mean, deviation, weights, pixels, config.seconds, encoder_config.fps, config.localisation
  )
  tx = optimizer.make_optimizer(config.optimizer)
  say(f'{config.steps} updates of {config.batch_size} clips; every clip of generic motion is seen once')
  writer = MetricWriter(workdir / 'tensorboard')
  state = fit(
    'pretrain',
    make_step(loss, tx, mesh),
    init_state(params, tx, config.seed),
    batches(config, config.steps * config.batch_size),
    config.steps,
    optimizer.schedule(config.optimizer, config.steps),
    mesh=mesh,
    checkpoints=Checkpoints(workdir / 'checkpoints'),
    writer=writer,
    save_every=config.save_every,
    clips_per_step=config.batch_size,
    watchdog=watchdog.SECONDS,
    profiler=Profiler(writer.directory),
    ledger=TimeLedger(workdir / 'ledger.jsonl'),
  )
  writer.close()

  unexplained = _evaluate(graph, state.params, config.seed + 2, mean, deviation, config.test_clips)
  for name, value in unexplained.items():
    say(f'  unexplained variance, {name}: {value:.3f}')
  path = workdir / encoders.SHIPPED
  log = json.dumps(
    {'updates': config.steps, 'clips': config.steps * config.batch_size, 'unexplained_variance': unexplained},
    sort_keys=True,
  )
  notes = {
    'command': _command(flags.FLAGS.config, flags.FLAGS.override),
    'seed': str(config.seed),
    'log': log,
  }
  digest = encoders.save(path, config.encoder.name, encoder_config, state.params['encoder'], notes)
  say(f'{path}  {path.stat().st_size / 2**20:.2f} MiB  sha256 {digest}')
  write_atomically(workdir / 'sha256.txt', f'{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n')


def target_weights(names: Sequence[str], emphasis: float) -> np.ndarray:
  """float32[K] with mean 1: what is not a joint (implement, contact, speeds) weighs `emphasis` times as much.

  These are 6 numbers among 158: weighed alike, they are the last to be learnt.
  """
  few = ('implement', 'contact', 'velocity', 'speed')
  weights = np.array([emphasis if any(word in name for word in few) else 1.0 for name in names], np.float32)
  return weights / weights.mean()


class GenericMotion:
  """Random-access source of generic clips for Grain: element i is clip i of `seed`."""

  def __init__(self, seed: int, clips: int):
    self._seed, self._clips = seed, clips

  def __len__(self) -> int:
    return self._clips

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    frames, targets = generic.batch(self._seed, [int(index)])
    return {'frames': frames[0], 'targets': targets[0]}


def batches(config: ml_collections.ConfigDict, clips: int) -> grain.experimental.ElasticIterator:
  """An elastic iterator of generic clips, each seen once."""
  workers = (
    grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=2) if config.workers else None
  )
  return grain.experimental.ElasticIterator(
    grain.MapDataset.source(GenericMotion(config.seed, clips)),
    config.batch_size,
    grain.sharding.ShardByJaxProcess(),
    read_options=grain.ReadOptions(num_threads=2, prefetch_buffer_size=2 * config.batch_size),
    multiprocessing_options=workers,
  )


def _command(config: str, overrides: Sequence[str]) -> str:
  """What makes these weights again, without the places that only this machine has."""
  name = f'configs/{Path(config).name}'
  return shlex.join(
    ['python', '-m', 'crosstrainer_jax.pretrain', f'--config={name}', *(f'--config.{o}' for o in overrides)]
  )


def _evaluate(
  graph: nnx.GraphDef, params: nnx.State, seed: int, mean: np.ndarray, deviation: np.ndarray, clips: int
) -> dict[str, float]:
  """Mean squared error of standardised targets on clips of another seed, by group: 1 is predicting the mean."""

  @jax.jit
  def predict(params: nnx.State, frames: jax.Array) -> jax.Array:
    model = nnx.merge(graph, params)
    return model.head(model.encoder(frames))

  errors = []
  for start in range(0, clips, 32):
    frames, targets = generic.batch(seed, range(start, min(start + 32, clips)))
    n, v, t = frames.shape[:3]
    predicted = predict(params, jnp.asarray(frames.reshape(n * v, *frames.shape[2:])))
    errors.append(((np.asarray(predicted).reshape(n, v, t, -1) - (targets - mean) / deviation) ** 2).mean((0, 1, 2)))
  error = np.mean(errors, 0)
  groups: dict[str, list[float]] = {'all': list(error)}
  for name, value in zip(generic.TARGET_NAMES, error, strict=True):
    groups.setdefault(name.split()[0], []).append(float(value))
  return {name: float(np.mean(values)) for name, values in groups.items()}


if __name__ == '__main__':
  define_flags()
  settings.run(main)
