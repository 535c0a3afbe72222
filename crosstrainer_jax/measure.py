"""What stands in the results table: the predictions of every row on the test clips, and their scores."""

import dataclasses
import importlib.util
import os
import types
from collections.abc import Mapping, Sequence

import jax
import ml_collections
import numpy as np
from flax import nnx

from crosstrainer_jax import datasets, row_facts
from crosstrainer_jax.baselines import BASELINES, RETRIEVAL, build, zero_shot
from crosstrainer_jax.baselines.pooling import concatenate, mean_pool
from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.baselines.retrieval import TOWERS
from crosstrainer_jax.discovery import lexicon
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.evaluation import calibration, judge, noise, scores, wordnet
from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.external import External, read_external
from crosstrainer_jax.evaluation.predictions import write_predictions, write_references
from crosstrainer_jax.evaluation.report import Report
from crosstrainer_jax.extraction import Extractor, reading_of
from crosstrainer_jax.inference.zero_shot import ZeroShot
from crosstrainer_jax.input import prompts
from crosstrainer_jax.models.proficiency import with_attributes
from crosstrainer_jax.recipe import known_attributes, retrieval_setting
from crosstrainer_jax.run import Run
from crosstrainer_jax.run_layout import (
  CROSSTRAINER,
  END_TO_END,
  PROBE_WITH_ATTRIBUTES,
  STAGE2,
  ZEROED,
  folder_of,
)
from crosstrainer_jax.training.telemetry import MetricWriter, Progress, say, timed

TRUE_ATTRIBUTES, CEILING = 'CrossTrainer with true attributes', 'sport-blind ceiling'
# The probe with attributes beside v (eq. 3), which the paper writes and does not build.
LEVEL_BY_ATTRIBUTES = 'level from v and attributes'
_NO_FEATURES = 'needs cached features (config.encoder.source=features)'
# Baselines that keep the order of seconds and views apart; the others compare averages.
_CONCATENATED = ('linear classifier on v',)


# Of these no test says anything: they know the truth, or are CrossTrainer itself.
_NO_RIVALS = (CROSSTRAINER, TRUE_ATTRIBUTES, CEILING)


@dataclasses.dataclass
class Rows:
  """Predictions by row, and why a row is absent."""

  predictions: dict[str, list[Prediction]] = dataclasses.field(default_factory=dict)
  absent: dict[str, str] = dataclasses.field(default_factory=dict)


def evaluate(
  run: Run,
  command: str,
  external: Mapping[str, str] = types.MappingProxyType({}),
  vlm: ZeroShot | None = None,
  judged_by: Asker | None = None,
) -> Report:
  """Predicts, scores, and writes `predictions/`, `report.md`, `report.json` and TensorBoard entries.

  Args:
    external: name of a row -> JSONL file with the answers of another system.
    vlm: a vision-language model behind a server, whose row is absent without one.
    judged_by: a language model that rates the feedback of every row, the column LLM-Acc.
  """
  references = [Reference.from_clip(run.clips[i]) for i in run.split.test]
  others = [read_external(name, path, references) for name, path in external.items()]
  with timed(f'predictions on {len(references)} test clips'):
    rows = predict_rows(run, references)
  with timed('confidence on test clips'):
    _claim(run, rows)
  _ask(run, rows, references, vlm)
  add_external(rows, others)
  folder = run.workdir / 'predictions'
  write_references(folder / 'references.jsonl', references)
  for name, row in rows.predictions.items():
    write_predictions(folder / f'{name.replace(" ", "_")}.jsonl', row)
  wordnet.obtain()
  with timed('scores'):
    report = score_rows(run, rows, references, command)
  report.made_of = row_facts.of_rows(run, rows.predictions, vlm)
  report.notes += [other.note for other in others]
  if judged_by is not None:
    _judge(rows, references, judged_by, report, run.config)
  _draw(run, rows, references)
  report.write(run.workdir)
  _show(run, rows.predictions[CROSSTRAINER], report)
  return report


# --- Predictions


def predict_rows(run: Run, references: Sequence[Reference]) -> Rows:
  """Every row of the table on the test clips."""
  rows = Rows()
  _baselines(run, references, rows)
  _retrieval(run, references, rows)
  stage2 = run.params(STAGE2)
  rows.predictions[CROSSTRAINER] = two_passes(run, stage2, references, run.split.test)
  true = [reference.attributes for reference in references]
  rows.predictions[TRUE_ATTRIBUTES] = two_passes(run, stage2, references, run.split.test, true)
  levels = _levels_by_attributes(run, stage2, references, rows.predictions[CROSSTRAINER])
  if levels is not None:
    rows.predictions[LEVEL_BY_ATTRIBUTES] = levels
  for share in run.config.eval.noise:
    wrong = _noised(run, rows.predictions[CROSSTRAINER], share)
    rows.predictions[noise.row_name(share)] = two_passes(run, stage2, references, run.split.test, wrong)
  if run.views > 1:
    rows.predictions[f'{CROSSTRAINER}, one view'] = two_passes(run, stage2, references, run.split.test, views=(0,))
  for name in (END_TO_END, ZEROED):
    if not (run.workdir / folder_of(name) / 'done.json').is_file():
      rows.absent[name] = 'not trained; add it to config.eval.rows'
  if END_TO_END not in rows.absent:
    rows.predictions[END_TO_END] = _one_pass(run, run.params(folder_of(END_TO_END)), references)
  if ZEROED not in rows.absent:
    rows.predictions[ZEROED] = two_passes(run, run.params(folder_of(ZEROED)), references, run.split.test, zeroed=True)
  ceiling = datasets.ceiling(run.config.data, run.clips, run.split)
  if ceiling is None:
    rows.absent[CEILING] = 'the true joints of these videos are not known'
  else:
    rows.predictions[CEILING] = [
      r.answer(attributes=sorted(faults), level=level) for r, (faults, level) in zip(references, ceiling, strict=True)
    ]
  return rows


def add_external(rows: Rows, others: Sequence[External]) -> None:
  """Adds rows that were made elsewhere; raises ValueError where one has the name of a row of ours."""
  for other in others:
    if other.name in rows.predictions or other.name in rows.absent:
      raise ValueError(f'--external: there is a row {other.name!r} already; give yours another name')
    rows.predictions[other.name] = other.predictions


def _baselines(run: Run, references: Sequence[Reference], rows: Rows) -> None:
  cache = run.video.cache
  if cache is None:
    rows.absent |= dict.fromkeys(BASELINES, _NO_FEATURES)
    return
  train = [Reference.from_clip(run.clips[i]) for i in run.split.train]
  pools = {False: mean_pool, True: concatenate}
  seen, unseen = (
    {kind: pool(cache.gather(part), run.valid(part)) for kind, pool in pools.items()}
    for part in (run.split.train, run.split.test)
  )
  for name in BASELINES:
    kind = name in _CONCATENATED
    rows.predictions[name] = build(name, run.config.seed).fit(train, seen[kind]).predict(unseen[kind], references)


def _retrieval(run: Run, references: Sequence[Reference], rows: Rows) -> None:
  for name, row in RETRIEVAL.items():
    setting = retrieval_setting(run, name)
    if run.video.cache is None:
      rows.absent[name] = _NO_FEATURES
    elif not (setting.directory / TOWERS / 'done.json').is_file():
      rows.absent[name] = 'not trained; add it to config.eval.rows'
    else:
      rows.predictions[name] = row.predict(setting, run.split.test, references)


def two_passes(
  run: Run,
  params: nnx.State,
  references: Sequence[Reference],
  indices: Sequence[int],
  attributes: Sequence[list[str]] | None = None,
  views: Sequence[int] | None = None,
  zeroed: bool = False,
) -> list[Prediction]:
  """F_a (unless `attributes` are given), then F_t, then the probe's level.

  Args:
    views: the views that are seen; None for all.
    zeroed: the video is all zeros, as this row was trained.
  """
  progress = Progress('assessing clips', len(indices), unit='clip')
  try:
    assessor, limits = run.assessor(params), run.config.eval
    read, valid = run.videos(indices, views)
    video = (lambda part: jax.tree.map(np.zeros_like, read(part))) if zeroed else read
    sports = [reference.sport for reference in references]
    if attributes is None:
      limit = limits.max_attribute_tokens, limits.max_feedback_tokens
      named, texts = assessor.two_passes(sports, video, valid, *limit, progress.update)
    else:
      named = list(attributes)
      texts = assessor.feedback(sports, named, video, valid, limits.max_feedback_tokens)
      progress.update(len(indices))
    probe = None if zeroed else run.probe()
    levels: Sequence[int | None] = [None] * len(indices)
    if probe is not None:
      levels = [int(level) for level in np.asarray(probe.logits(assessor.pooled(video, valid))).argmax(1)]
  finally:
    progress.close()
  if assessor.cut:
    say(f'  {assessor.cut} texts were cut at config.eval.max_attribute_tokens or max_feedback_tokens')
  return [r.answer(list(a), text, level) for r, a, text, level in zip(references, named, texts, levels, strict=True)]


def _levels_by_attributes(
  run: Run, params: nnx.State, references: Sequence[Reference], predictions: Sequence[Prediction]
) -> list[Prediction] | None:
  """Levels by the probe that sees CrossTrainer's attributes beside v (eq. 3); None where there is none."""
  probe = run.probe(PROBE_WITH_ATTRIBUTES)
  if probe is None:
    return None
  video, valid = run.videos(run.split.test)
  named = [prediction.attributes or [] for prediction in predictions]
  features = with_attributes(run.assessor(params).pooled(video, valid), named, known_attributes(run))
  levels = np.asarray(probe.logits(features)).argmax(1)
  return [r.answer(level=int(level)) for r, level in zip(references, levels, strict=True)]


def _noised(run: Run, predictions: Sequence[Prediction], share: float) -> list[list[str]]:
  """The attributes of CrossTrainer with a share of them wrong: others that training knows (paper, Table 4 left)."""
  named = [prediction.attributes or [] for prediction in predictions]
  return noise.noised(named, share, known_attributes(run), run.config.seed)


def _claim(run: Run, rows: Rows) -> None:
  """Gives CrossTrainer's answers on some test clips the probability of each attribute, as `assess` shows it."""
  wanted, test = run.config.eval.confidence_clips, run.split.test
  chosen = list(range(0, len(test), max(1, -(-len(test) // wanted)))) if wanted else []
  if not chosen:
    return
  indices = [test[number] for number in chosen]
  video, valid = run.videos(indices)
  chances = run.assessor(run.params(STAGE2)).probabilities(
    [run.clips[i].sport for i in indices],
    video,
    valid,
    run.config.eval.max_attribute_tokens,
    run.config.assess.samples,
    run.config.assess.temperature,
    run.config.seed,
  )
  answers = rows.predictions[CROSSTRAINER]
  for number, found in zip(chosen, chances, strict=True):
    claimed = {name: chance for name, chance in found.items() if name != prompts.EMPTY}
    answers[number] = dataclasses.replace(answers[number], scores=claimed)


def _ask(run: Run, rows: Rows, references: Sequence[Reference], vlm: ZeroShot | None) -> None:
  """The row of a vision-language model that was never trained here."""
  if vlm is None:
    rows.absent[zero_shot.ROW] = zero_shot.NEEDS
    return
  progress = Progress('asking', len(references), unit='clip')
  try:
    rows.predictions[zero_shot.ROW] = zero_shot.predict(
      vlm, run.source, run.split.test, references, progress.update, say
    )
  finally:
    progress.close()


def _one_pass(run: Run, params: nnx.State, references: Sequence[Reference]) -> list[Prediction]:
  """Feedback without attributes; the extractor reads them off the text, as the paper does for such rows."""
  video, valid = run.videos(run.split.test)
  texts = run.assessor(params).feedback(
    [r.sport for r in references], None, video, valid, run.config.eval.max_feedback_tokens
  )
  return [r.answer(feedback=text) for r, text in zip(references, texts, strict=True)]


# --- Scores


def score_rows(run: Run, rows: Rows, references: Sequence[Reference], command: str) -> Report:
  """Scores and intervals of all rows, and CrossTrainer minus each trained rival, paired by take."""
  settings = run.config.eval
  ours = rows.predictions[CROSSTRAINER]
  extract = Extractor(run.config)
  reading = reading_of(run.config, run.clips, extract)
  for row in rows.predictions.values():
    if all(prediction.attributes is None for prediction in row):
      extract.prepare(prediction.feedback or '' for prediction in row)
  how = reading, settings.resamples, run.config.seed
  scored = {name: scores.score(row, references, *how) for name, row in rows.predictions.items()}
  differences = {
    f'{CROSSTRAINER} − {rival}': scores.compare(ours, rows.predictions[rival], references, *how)
    for rival in (END_TO_END, ZEROED, 'nearest neighbour')
    if rival in rows.predictions
  }
  rivals = {name: row for name, row in rows.predictions.items() if name not in _NO_RIVALS}
  tested = scores.significance(ours, rivals, references, *how)
  confidence = {
    name: calibration.calibration(calibration.claims(row, references, reading.name_fault))
    for name, row in rows.predictions.items()
    if any(prediction.scores for prediction in row)
  }
  return Report(
    title=f'{run.config.data.dataset}, {run.config.split.setting}',
    setting=run.config.split.setting,
    held_out=run.config.split.held_out,
    seed=run.config.seed,
    command=command,
    hardware=hardware(),
    n_clips=len(references),
    n_takes=len({reference.take for reference in references}),
    n_headline=int(scores.headline_mask(references).sum()),
    columns=list(scores.columns(reading)),
    rows=scored,
    differences=differences,
    not_run=rows.absent,
    variants=scores.variants(reading),
    notes=[
      *scores.notes(references),
      *(found.line(name) for name, found in confidence.items()),
      f'{TRUE_ATTRIBUTES}: those discovered in the expert’s commentary, so its attribute F1 is discovery’s',
    ],
    details=[
      *scores.details(),
      *scores.significance_lines(tested, CROSSTRAINER, ('attribute F1', 'feedback F1', 'level accuracy')),
    ],
    resamples=settings.resamples,
    bootstrap_seed=run.config.seed,
  )


def hardware() -> str:
  """The devices as a reader would name them."""
  devices = jax.devices()
  if devices[0].platform == 'cpu':
    return f'CPU, {os.cpu_count()} cores'
  return f'{len(devices)} × {devices[0].device_kind}'


def _judge(
  rows: Rows, references: Sequence[Reference], judged_by: Asker, report: Report, config: ml_collections.ConfigDict
) -> None:
  """Ratings 1 to 5 of all feedback by a language model, as a further column."""
  takes, faulty = [reference.take for reference in references], scores.headline_mask(references)
  spoken = np.array([bool(reference.commentary.strip()) for reference in references])
  for name, row in rows.predictions.items():
    if all(prediction.feedback is None for prediction in row):
      continue
    pairs = [(r.commentary, p.feedback or '') for r, p in zip(references, row, strict=True)]
    rated = judge.rate([pair for pair, said in zip(pairs, spoken, strict=True) if said], judged_by.complete)
    statistic = rated.statistic(np.flatnonzero(spoken).tolist(), len(pairs))
    for scope, mask in (('headline', faulty), ('all', np.ones_like(faulty))):
      found = bootstrap(statistic.keep(mask), takes, config.eval.resamples, config.seed)
      report.rows[name][f'{scope}/LLM-Acc'] = found
  report.columns.append('LLM-Acc')
  report.variants.append(
    f'LLM-Acc: mean rating, 1 … 5 and not × 100, by {judged_by.model.name}, of feedback beside the commentary'
  )


def _draw(run: Run, rows: Rows, references: Sequence[Reference]) -> None:
  """Reliability and risk over coverage of the rows that give probabilities, where there is matplotlib."""
  name_fault = lexicon.name_concept
  claimed = {name: calibration.claims(row, references, name_fault) for name, row in rows.predictions.items()}
  claimed = {name: found for name, found in claimed.items() if len(found.true)}
  if claimed and importlib.util.find_spec('matplotlib'):
    calibration.plot(claimed, run.workdir / 'confidence.png')
    say(f'  reliability and risk over coverage: {run.workdir}/confidence.png')


def _show(run: Run, predictions: Sequence[Prediction], report: Report) -> None:
  """Scores and a few clips with truth and prediction, in TensorBoard."""
  writer = MetricWriter(run.workdir / 'tensorboard')
  for name, interval in report.rows[CROSSTRAINER].items():
    if np.isfinite(interval.value):
      writer.write_scalars(0, {f'evaluation/{name}': interval.value})
  for number, (index, prediction) in enumerate(zip(run.split.test[: run.config.eval.shown], predictions, strict=False)):
    clip = run.source[index]
    if clip.frames.size:
      strip = np.concatenate(
        [np.concatenate(list(view[:: max(1, len(view) // 8)]), axis=1) for view in clip.frames], axis=0
      )
      writer.write_images(number, {'clips': strip[None]})
    lines = [
      f'**{clip.sport}, {clip.skill}** ({clip.clip_id})',
      f'expert: {clip.commentary}',
      f'expert’s attributes: {", ".join(run.clips[index].incorrect) or "none"}',
      f'true faults: {", ".join(clip.faults) or "none"}',
      f'CrossTrainer’s attributes: {", ".join(prediction.attributes or []) or "none"}',
      f'CrossTrainer’s feedback: {prediction.feedback}',
    ]
    writer.write_texts(number, {'clips': '\n\n'.join(lines)})
  writer.close()
  say(f'  {min(len(predictions), run.config.eval.shown)} clips with truth and prediction are in TensorBoard')
