"""The recipe: in which order a prepared run is trained.

    stage I → folds → stage II → other rows → probe → confidence

Every step leaves its result in the workdir and is skipped when that is there: a killed run goes on where it was.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from flax import nnx

from crosstrainer_jax import datasets
from crosstrainer_jax.baselines import RETRIEVAL
from crosstrainer_jax.baselines.retrieval import Setting
from crosstrainer_jax.inference import confidence
from crosstrainer_jax.inference.trained import Card
from crosstrainer_jax.input import examples, pipeline, splits
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.models.proficiency import fit_probe, with_attributes
from crosstrainer_jax.run import Run
from crosstrainer_jax.run_layout import (
  END_TO_END,
  PROBE,
  PROBE_WITH_ATTRIBUTES,
  STAGE1,
  STAGE2,
  ZEROED,
  folder_of,
  row_folder,
)
from crosstrainer_jax.training import stages
from crosstrainer_jax.training.telemetry import MetricWriter, say, timed


def train(run: Run) -> None:
  """Trains whatever is not yet trained."""
  config, clips = run.config, len(run.split.train)
  batch_size = config.training.batch_size
  first = stages.updates_of(config.stage1.epochs, clips, batch_size)
  second = stages.updates_of(config.stage2.epochs, clips, batch_size)
  writer = MetricWriter(run.workdir / 'tensorboard')
  alone = pipeline.Task(examples.ATTRIBUTES, 1)
  feedback = pipeline.Task(examples.FEEDBACK, config.stage2.feedback)
  both = [feedback, pipeline.Task(examples.ATTRIBUTES, config.stage2.attributes)]
  try:
    with timed('stage I'):
      stage1 = _train(run, STAGE1, run.initial, [alone], run.split.train, first, writer)
    with timed('attributes out of fold'):
      predicted = _out_of_fold(run, writer)
    with timed('stage II'):
      mixed = dataclasses.replace(feedback, predicted=predicted, true_ratio=config.stage2.true_ratio)
      stage2 = _train(run, STAGE2, stage1, [mixed, *both[1:]], run.split.train, second, writer)
    if END_TO_END in config.eval.rows:
      with timed(f'row: {END_TO_END}'):
        direct = pipeline.Task(examples.DIRECT, 1)
        _train(run, folder_of(END_TO_END), run.initial, [direct], run.split.train, first + second, writer)
    if ZEROED in config.eval.rows:
      with timed(f'row: {ZEROED}'):
        prior = _train(
          run, folder_of(ZEROED, STAGE1), run.initial, [alone], run.split.train, first, writer, zeroed=True
        )
        _train(run, folder_of(ZEROED), prior, both, run.split.train, second, writer, zeroed=True)
    for name, row in RETRIEVAL.items():
      if name in config.eval.rows and run.video.cache is not None:
        with timed(f'row: {name}'):
          row.train(retrieval_setting(run, name), writer)
    if config.probe.steps:
      with timed('proficiency probe'):
        _fit_probes(run, stage2, predicted)
    with timed('confidence'):
      _write_card(run, stage2)
  finally:
    writer.close()


def retrieval_setting(run: Run, row: str) -> Setting:
  """What a row that retrieves is made from."""
  return Setting(
    run.workdir / row_folder(row),
    run.clips,
    run.split.train,
    run.split.validation,
    run.video,
    run.valid,
    run.text,
    run.mesh,
    run.config,
  )


def _train(
  run: Run,
  folder: str,
  params: nnx.State,
  tasks: Sequence[pipeline.Task],
  clips: Sequence[int],
  updates: int,
  writer: MetricWriter,
  zeroed: bool = False,
) -> nnx.State:
  config = run.config
  stage = pipeline.Stage(
    run.clips,
    clips,
    [task for task in tasks if task.share],
    run.text,
    config.training.view_dropout,
    run.seconds,
    config.training.name_dropout,
  )
  # Every stage draws its own order, the same one in every run with this seed.
  seed = int(hashlib.sha256(f'{config.seed} {folder}'.encode()).hexdigest()[:8], 16) % 2**31
  video = dataclasses.replace(run.video, zeroed=zeroed)
  evaluate = None
  if config.training.evaluate_every and run.split.validation:
    held_back = dataclasses.replace(stage, train=run.split.validation)
    evaluate = stages.make_evaluate(run.blueprint, params, held_back, video, config.training, run.mesh)
  return stages.train_stage(
    run.workdir / folder,
    folder,
    run.update,
    run.blueprint,
    params,
    stage,
    video,
    config.training,
    updates,
    mesh=run.mesh,
    seed=seed,
    writer=writer,
    evaluate=evaluate,
  )


def _out_of_fold(run: Run, writer: MetricWriter) -> dict[int, list[str]]:
  """For every training clip, the attributes that a stage I which has not seen its person writes."""
  config, path = run.config, run.workdir / 'folds' / 'predicted.json'
  if path.is_file():
    by_id = json.loads(path.read_text())
    return {i: by_id[run.clips[i].clip_id] for i in run.split.train if run.clips[i].clip_id in by_id}
  predicted: dict[int, list[str]] = {}
  if config.stage2.folds:
    parts = splits.folds(run.clips, run.split.train, config.stage2.folds, config.split.seed)
    if not parts:
      say('  a single clip leaves nothing to predict out of fold: stage II sees true attributes alone')
    for number, fold in enumerate(parts):
      others = [i for part in parts if part is not fold for i in part]
      updates = stages.updates_of(config.stage2.fold_epochs, len(others), config.training.batch_size)
      task = pipeline.Task(examples.ATTRIBUTES, 1)
      params = _train(run, f'folds/{number}', run.initial, [task], others, updates, writer)
      predicted |= dict(zip(fold, predict_attributes(run, params, fold), strict=True))
    write_atomically(path, json.dumps({run.clips[i].clip_id: listed for i, listed in predicted.items()}))
  return predicted


def predict_attributes(
  run: Run, params: nnx.State, indices: Sequence[int], views: Sequence[int] | None = None
) -> list[list[str]]:
  """F_a on clips of the run."""
  video, valid = run.videos(indices, views)
  return run.assessor(params).attributes(
    [run.clips[i].sport for i in indices], video, valid, run.config.eval.max_attribute_tokens
  )


def _fit_probes(run: Run, params: nnx.State, predicted: dict[int, list[str]]) -> None:
  """f_p on v, and for the comparison one on v and attributes: those predicted out of fold, as a test clip's are."""
  paths = [run.workdir / 'probe' / name for name in (PROBE, PROBE_WITH_ATTRIBUTES)]
  train = run.split.train
  levels = np.array([run.clips[i].proficiency for i in train])
  if all(path.is_file() for path in paths):
    return
  if (levels < 0).all():
    say('  no training clip has a level of proficiency: no probe')
    return
  video, valid = run.videos(train)
  pooled = run.assessor(params).pooled(video, valid)
  named = [predicted.get(i, run.clips[i].incorrect) for i in train]
  settings = run.config.probe
  for path, features in zip(paths, (pooled, with_attributes(pooled, named, known_attributes(run))), strict=True):
    fit_probe(features, levels, settings.steps, settings.learning_rate, settings.weight_decay).save(path)


def known_attributes(run: Run) -> list[str]:
  """The phrases that training clips are criticised for, sorted."""
  return sorted({phrase for i in run.split.train for phrase in run.clips[i].incorrect})


def _write_card(run: Run, params: nnx.State) -> None:
  """Sets the threshold of confidence on validation clips, and writes what `assess` must know of the model."""
  config = run.config
  # Evenly drawn: the clips lie sport by sport.
  every = -(-len(run.split.validation) // config.assess.validation_clips)
  indices = run.split.validation[:: max(1, every)]
  threshold, precision = confidence.NEVER, 0.0
  if indices:
    video, valid = run.videos(indices)
    chances = run.assessor(params).probabilities(
      [run.clips[i].sport for i in indices],
      video,
      valid,
      config.eval.max_attribute_tokens,
      config.assess.samples,
      config.assess.temperature,
      config.seed,
    )
    truths = [run.clips[i].faults if run.clips[i].has_faults else run.clips[i].incorrect for i in indices]
    threshold, precision = confidence.choose_threshold(chances, truths, config.assess.target_precision)
  sports = sorted({run.clips[i].sport for i in run.split.train})
  Card(
    config.data.dataset,
    sports,
    simulated=datasets.simulated(config.data),
    views=run.views,
    seconds=run.seconds,
    frames=run.seconds * run.video_encoder.config.frames_per_token,
    fit=run.source.fit,
    threshold=threshold,
    precision=precision,
    encoder=run.video_encoder.fingerprint,
    validation_clips=len(indices),
    frame_size=run.source.frame_size,
  ).write(run.workdir)
  if not indices:
    say('  nobody is left to validate: never sure')
  elif threshold > 1:
    say(
      f'  no threshold reaches a precision of {config.assess.target_precision:.0%} (best {precision:.0%}): never sure'
    )
  else:
    say(f'  sure from a probability of {threshold:.0%}: precision {precision:.0%} on {len(indices)} validation clips')
