"""The work on takes as a pipeline of Apache Beam, which a distributed runner shares between machines.

    python -m crosstrainer_jax.prepare egoexo4d --root /shared/egoexo4d --data_dir /shared/datasets \\
      --beam_options --runner=FlinkRunner --flink_master=localhost:8081

All machines need the package, and the root and the datasets at the same paths. Records come in another order than from
threads, since TFDS sorts those of Beam by hash. What became of each take is written beside, for the report.

Beam comes with the extra `beam`, which wants an older protobuf than JAX's tools: give it an environment of its own.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from crosstrainer_jax.datasets.takes import making
from crosstrainer_jax.datasets.takes.clips import Settings, clips_of
from crosstrainer_jax.datasets.takes.journal import Journal
from crosstrainer_jax.datasets.takes.take import Loss, Take

_MADE = 'made'


def options(arguments: Sequence[str]) -> PipelineOptions:
  """Those of a pipeline, from a command line. Raises ValueError for what Beam does not know."""
  found = PipelineOptions(list(arguments))
  if unknown := [name for name in arguments if not name.startswith('--')]:
    raise ValueError(f'--beam_options: {unknown[0]!r} is no option; write --name=value')
  return found


class ClipsOfTake(beam.DoFn):
  """(clip id, example) of each clip of a take, and for the output `made` what became of it."""

  def __init__(self, settings: Settings):
    self.settings = settings

  def process(self, line: str) -> Iterator[Any]:
    """`line`: key and take as JSON."""
    key, text = json.loads(line)
    take = Take.from_json(text)
    losses: list[Loss] = []
    clips, views = 0, []
    with tempfile.TemporaryDirectory() as scratch:
      for clip in clips_of(take, self.settings, scratch, losses.append):
        clips, views = clips + 1, clip.views
        yield clip.clip_id, clip.to_example()
    recording = None
    if clips and not self.settings.frames and not take.features:
      recording = making.locate(take, self.settings.root, views)
    made = [key, clips, recording, [[loss.what, loss.id, loss.reason, loss.detail] for loss in losses]]
    yield beam.pvalue.TaggedOutput(_MADE, json.dumps(made))


class ClipsOfSplit(beam.PTransform):
  """All clips of the takes in a file of lines."""

  def __init__(self, lines: str, made: str, settings: Settings):
    super().__init__()
    self.lines, self.made, self.settings = lines, made, settings

  def expand(self, pipeline: Any) -> Any:
    """The pipeline → (clip id, example)."""
    found = (
      pipeline
      | 'read takes' >> beam.io.ReadFromText(self.lines)
      # What follows takes minutes a line: it must not stay where the file was read.
      | 'share' >> beam.Reshuffle()
      | 'clips' >> beam.ParDo(ClipsOfTake(self.settings)).with_outputs(_MADE, main='clips')
    )
    _ = found[_MADE] | 'note' >> beam.io.WriteToText(self.made)
    return found['clips']


def clips_of_split(journal: Journal, split: str, settings: Settings, folder: pathlib.Path) -> ClipsOfSplit:
  """The transform for a split, whose takes are written to `folder` first."""
  lines = folder / f'takes-{split}.jsonl'
  with lines.open('w', encoding='utf-8') as file:
    for key, take in journal.of_split(split):
      file.write(json.dumps([key, take]) + '\n')
  return ClipsOfSplit(os.fspath(lines), os.fspath(folder / f'made-{split}'), settings)


def gather(journal: Journal, folder: pathlib.Path) -> None:
  """What became of the takes, from the files that the pipeline has left, into the journal."""
  for path in sorted(folder.glob('made-*')):
    with path.open(encoding='utf-8') as file:
      for key, clips, recording, losses in map(json.loads, file):
        journal.finish(key, clips, 0, recording, [Loss(*loss) for loss in losses])
