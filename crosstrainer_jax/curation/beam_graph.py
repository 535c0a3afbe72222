"""The same curation as a graph of Apache Beam, which a distributed runner shares between machines.

    python -m crosstrainer_jax.curate run /shared/videos --queries queries.csv --output /shared/library \\
      --beam_options --runner=FlinkRunner --flink_master=localhost:8081

All machines need the package, and the videos and the output at the same paths. Elements are videos, as lines of JSON;
for duplicates clips meet by key in their buckets. Only the last step is left on disk, and a limit of requests a minute
holds for each worker. Answers of models are kept in one file, which must not lie on a disk
that several machines write to at once: name one for each worker with --answers, or let a server of models do so.

Beam comes with the extra `beam`, which wants an older protobuf than JAX's tools: give it an environment of its own.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from crosstrainer_jax.curation import duplicates, scan
from crosstrainer_jax.curation.steps import NAMES, Settings, steps
from crosstrainer_jax.curation.videos import Video
from crosstrainer_jax.curation.work import Counts, Work
from crosstrainer_jax.datasets.takes.beam_pipeline import options as pipeline_options


class Apply(beam.DoFn):
  """The step with that number of `steps`, made anew on each worker."""

  def __init__(self, settings: Settings, number: int):
    self.settings, self.number = settings, number

  def setup(self) -> None:
    self.step = steps(self.settings)[self.number]

  def process(self, line: str) -> Iterator[str]:
    video = Video.from_json(line)
    if not self.number:
      video.unanswered = 0
    yield self.step.apply(video).to_json()


def _buckets(line: str) -> Iterator[tuple[str, tuple[str, Any, Any]]]:
  video = Video.from_json(line)
  for segment in video.alive():
    signature = duplicates.Signature.of(video, segment)
    for name in set(signature.buckets()):
      yield name, (signature.key, signature.hashes, signature.words)


def _within(bucket: tuple[str, Iterable[tuple[str, Any, Any]]]) -> Iterator[tuple[str, duplicates.Match]]:
  yield from duplicates.within(duplicates.Signature(*values) for values in bucket[1])


def _by_video(found: tuple[str, duplicates.Match]) -> tuple[str, tuple[str, duplicates.Match]]:
  return found[0].rpartition('/')[0], found


def _mark(joined: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[str]:
  for line in joined[1]['videos']:
    found = {clip: duplicates.Match(*match) for clip, match in joined[1]['found']}
    yield duplicates.mark(Video.from_json(line), found).to_json()


def graph(pipeline: Any, lines: str, settings: Settings) -> Any:
  """Lines of the scan (a pattern of files) -> lines of videos after the last step."""
  videos = pipeline | 'videos' >> beam.io.ReadFromText(lines) | 'share' >> beam.Reshuffle()
  for number, name in enumerate(NAMES[1:-1]):
    videos = videos | name >> beam.ParDo(Apply(settings, number))
  found = (
    videos
    | 'buckets' >> beam.FlatMap(_buckets)
    | 'meet' >> beam.GroupByKey()
    | 'compare' >> beam.FlatMap(_within)
    | 'the first' >> beam.CombinePerKey(min)
    | 'by video' >> beam.Map(_by_video)
  )
  keyed = videos | 'key' >> beam.Map(lambda line: (json.loads(line)['id'], line))
  return {'videos': keyed, 'found': found} | 'join' >> beam.CoGroupByKey() | 'mark' >> beam.FlatMap(_mark)


def run(work: Work, settings: Settings, arguments: Sequence[str]) -> Counts:
  """Runs the graph over what was scanned, and leaves the last step's shards as the work on this machine does.

  Raises:
    ValueError: an option that Beam does not know, or the pipeline failed.
  """
  source, target = work.of(0, scan.STEP), work.of(len(NAMES) - 1, duplicates.NAME)
  with tempfile.TemporaryDirectory(dir=work.folder, prefix='.beam-') as folder:
    try:
      with beam.Pipeline(options=pipeline_options(arguments)) as pipeline:
        made = graph(pipeline, os.fspath(source / '*.jsonl'), settings)
        _ = made | 'write' >> beam.io.WriteToText(os.path.join(folder, 'made'), file_name_suffix='.jsonl')
    except Exception as error:  # of the runner or of a worker
      last = (str(error).strip().splitlines() or [repr(error)])[-1]
      raise ValueError(f'the pipeline of Apache Beam failed: {last}') from error
    counts = Counts()
    for path in pathlib.Path(folder).glob('*.jsonl'):
      with path.open(encoding='utf-8') as lines:
        for line in lines:
          counts.see(duplicates.NAME, Video.from_json(line))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(folder, target)
    pathlib.Path(folder).mkdir()  # for the context to remove
  return counts
