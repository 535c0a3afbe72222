"""python -m crosstrainer_jax.retrieve: which how-to clip to watch for the mistake in a learner's clip, and how well."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import ml_collections
import numpy as np
from absl import flags

from crosstrainer_jax import datasets, distributed, settings
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.training.telemetry import MetricWriter, say, timed

if TYPE_CHECKING:
  from crosstrainer_jax.retrieval.material import Material
  from crosstrainer_jax.retrieval.report import Report


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  settings.define_run_flags('configs/retrieval.py', 'Checkpoints, triples, the index and the report')


def main(argv: list[str]) -> None:
  del argv
  if flags.FLAGS.runs:
    from crosstrainer_jax.evaluation.table import markdown
    from crosstrainer_jax.retrieval import report

    found = [report.read(as_path(workdir) / 'retrieval.json') for workdir in flags.FLAGS.runs]
    print('\n'.join(markdown(table) for table in report.summary(found)))
    return
  config = settings.config_from_flags()
  workdir = settings.workdir_from_flags()
  if flags.FLAGS['dry-run'].value:
    say(plan(config, workdir))
    return
  distributed.initialize()
  check(workdir, '--workdir', write=True)
  check(flags.FLAGS.data_dir, '--data_dir', write=False)
  run(config, workdir, flags.FLAGS.data_dir).print()
  say(f'written: {workdir}/retrieval.md, retrieval.json, triples.jsonl, library/')
  if (workdir / 'library').is_dir():
    say(f'next: python -m crosstrainer_jax.assess VIDEO --library {workdir}    # and the clips to watch')


def plan(config: ml_collections.ConfigDict, workdir: Path) -> str:
  """What a run of `config` will do, in a few lines."""
  return '\n'.join(
    [
      f'Would rank clips of {config.retrieve.library} for learners of {config.data.dataset}, seed {config.seed}.',
      f'  rows       {", ".join(config.retrieve.rows)}',
      f'  labels     attributes by {config.discovery.backend}',
      f'  relevance  {config.retrieve.ratings or "the truth of the embedded worlds"}',
      f'  workdir    {workdir}{" (exists: resumes)" if workdir.is_dir() else ""}',
      '',
      settings.dump(config),
    ]
  )


def run(config: ml_collections.ConfigDict, workdir: Path, data_dir: str | Path) -> Report:
  """Trains what is not trained, ranks, scores, and writes the report.

  Raises:
    SettingsError: the workdir belongs to another config or to other data.
    ValueError: datasets that do not fit, an unknown row, or nobody knows what is relevant.
  """
  from crosstrainer_jax.curation import howto
  from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic, paired_difference
  from crosstrainer_jax.evaluation.retrieval import ranks
  from crosstrainer_jax.measure import hardware
  from crosstrainer_jax.retrieval import library as library_files
  from crosstrainer_jax.retrieval import material as materials
  from crosstrainer_jax.retrieval import report, rows, scoring, weak

  if unknown := sorted(set(config.retrieve.rows) - set(rows.ROWS)):
    raise ValueError(f'config.retrieve.rows: no row {unknown[0]!r}; known: {", ".join(rows.ROWS)}')
  embedded = config.data.dataset == 'skillsim' and config.retrieve.library == howto.NAME
  if not (embedded or config.retrieve.ratings):
    raise ValueError('config.retrieve.ratings: what is relevant is known of the embedded worlds alone; name a file')
  begun = time.monotonic()
  settings.keep_compiled(data_dir)
  with timed('data'), distributed.first('data'):
    learners = datasets.prepare(config.data, data_dir)
    if config.retrieve.library == howto.NAME:
      library = howto.prepare(data_dir, **config.retrieve.howto.to_dict())
    else:
      other = ml_collections.ConfigDict({'dataset': config.retrieve.library})
      library = datasets.prepare(other, config.retrieve.library_dir or data_dir)
  material = materials.open_material(config, workdir, learners, library)
  gains, best, queries, note = _relevance(config, material, library)
  candidates = material.library_test
  own_sports, their_sports = ([material.clips[i].sport for i in part] for part in (queries, candidates))
  takes = [material.clips[index].take for index in queries]

  spoken = [material.spoken[index] for index in material.setting.train]
  told = [material.spoken[index] for index in material.library_train]
  triples = list(weak.triples(spoken, told, seed=config.seed))
  if jax.process_index() == 0:
    weak.write(workdir / 'triples.jsonl', triples)
    say(f'  {len(triples)} triples of weak supervision')
  writer = MetricWriter(workdir / 'tensorboard')
  scores: dict[str, np.ndarray] = {}

  def masked(found: np.ndarray) -> np.ndarray:
    return scoring.masked(found, own_sports, their_sports)

  @functools.cache
  def by_weak_pairs() -> np.ndarray:
    towers = rows.weak_pairs(material, spoken, told, writer)
    indices = sorted([*material.library_train, *material.library_test])
    vectors = towers.text_vectors([material.clips[index].commentary for index in indices])
    if jax.process_index() == 0:
      shown = [library_files.of_info(material.clips[index], material.spoken[index]) for index in indices]
      library_files.write(workdir, shown, vectors)
    return masked(rows.by_towers(material, towers, queries, candidates))

  try:
    for name in config.retrieve.rows:
      if name == rows.RANDOM:
        scores[name] = rows.by_lot(queries, candidates, config.seed)
      elif name == rows.NAMES:
        scores[name] = rows.by_names([material.clips[i] for i in queries], [material.clips[i] for i in candidates])
      elif name == rows.VISUAL:
        scores[name] = rows.by_looks(material, queries, candidates)
      elif name == rows.ZERO_SHOT:
        scores[name] = rows.by_towers(material, rows.zero_shot(material, writer), queries, candidates)
      elif name == rows.WEAK:
        scores[name] = by_weak_pairs()
      else:
        model = rows.reranker(material, name, triples, spoken, writer)
        scores[name] = rows.by_reranker(model, by_weak_pairs(), config.rerank.top, queries, candidates)
  finally:
    writer.close()
  scores = {name: masked(found) for name, found in scores.items()}
  found = {name: scoring.score(row, gains, best, takes, config.retrieve.resamples) for name, row in scores.items()}

  def hits(name: str, k: int) -> Statistic:
    place = ranks(scores[name], [np.flatnonzero(row >= best).tolist() for row in gains])
    return mean_statistic((place <= k).astype(float).tolist(), np.isfinite(place))

  pairs = [
    (rows.WEAK, rows.NAMES), (rows.WEAK, rows.ZERO_SHOT), (rows.ZERO_SHOT, rows.NAMES), (rows.WEAK, rows.RANDOM),
    (rows.RERANKED, rows.WEAK), (rows.RERANKED, rows.BLIND), (rows.RERANKED, rows.NAMES),
  ]  # fmt: skip
  differences = {
    f'{one} − {other}': {
      f'R@{k}': paired_difference(hits(one, k), hits(other, k), takes, config.retrieve.resamples) for k in (1, 10, 50)
    }
    for one, other in pairs
    if one in scores and other in scores
  }
  possible = np.array(own_sports)[:, None] == np.array(their_sports)[None]
  facts = [
    f'{len(queries)} learners’ clips by people who do not train; {len(candidates)} candidates of channels that do not '
    f'train, {possible.sum(1).mean():.0f} of a sport; {note}',
    f'Weak labels: attributes by {config.discovery.backend}; seed {config.seed}.',
    f'[95 % percentile bootstrap by take, {config.retrieve.resamples} resamples]; {hardware()}, '
    f'{time.monotonic() - begun:.0f} s.',
  ]
  made = report.Report(found, differences, scoring.chance(gains, possible, best), facts)
  if jax.process_index() == 0:
    write_atomically(workdir / 'retrieval.md', made.to_markdown())
    write_atomically(workdir / 'retrieval.json', made.to_json())
    # The last, since whoever finds it takes the run for finished.
    material.card.write(workdir)
  return made


def _relevance(
  config: ml_collections.ConfigDict, material: Material, library: Path
) -> tuple[np.ndarray, float, list[int], str]:
  """Grades float[N, M], from which grade on a candidate is relevant, the queries, and a note for the page."""
  from crosstrainer_jax.datasets.howto.folder import read_truth
  from crosstrainer_jax.datasets.skillsim import builder
  from crosstrainer_jax.retrieval import ratings, truth

  clips = material.clips
  if config.retrieve.ratings:
    given = ratings.read(as_path(config.retrieve.ratings))
    queries = [index for index in material.learners_test if clips[index].clip_id in given]
    names = [clips[index].clip_id for index in material.library_test]
    gains, lost = ratings.gains(given, [clips[index].clip_id for index in queries], names)
    if not queries or np.isnan(gains).all():
      raise ValueError(f'{config.retrieve.ratings}: it rates no pair of a learner’s test clip and a test candidate')
    return gains, 2.0, queries, f'rated in {config.retrieve.ratings} ({lost} ratings are of other clips)'
  world = builder.world(**config.data.skillsim.to_dict())
  known = read_truth(library.parents[3] / 'videos')
  lessons = [truth.topic_of_lesson(clips[index], known) for index in material.library_test]
  queries = [index for index in material.learners_test if clips[index].faults]
  topics = [
    truth.Topic(
      clips[index].sport,
      frozenset((fault.name, fault.direction) for fault in world.spec_of(clips[index].clip_id).faults),
    )
    for index in queries
  ]
  note = 'relevant: the same fault in the same direction; half as much: the same fault, by the truth of the worlds'
  return truth.grades(topics, lessons), float(truth.BEST), queries, note


if __name__ == '__main__':
  define_flags()
  settings.run(main)
