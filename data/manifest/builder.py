"""The TFDS builder of own videos: a dataset by the name you give it, records in ArrayRecord.

```python
builder = prepare('manifest.jsonl', 'runs/datasets', 'my_videos', mu1=2, mu2=2)
source = builder.as_data_source('train')  # or, later: tfds.data_source('my_videos', data_dir='runs/datasets')['train']
clip = record.Clip.from_example(source[0])
```
"""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from crosstrainer_jax.datasets.manifest import decoding, windows
from crosstrainer_jax.datasets.manifest import plan as planning
from crosstrainer_jax.datasets.manifest.plan import ManifestConfig, Plan
from crosstrainer_jax.datasets.manifest.rows import ManifestError
from crosstrainer_jax.datasets.quiet import Quiet, quiet_tfds
from crosstrainer_jax.input import record, recordings, video
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.progress import Progress

NO_FRAMES = 'no frame in the window'


class Manifest(Quiet, tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Writes one set of own videos. It is read without this class, through `tfds.builder` by its name."""

  VERSION = tfds.core.Version('1.0.0')
  # TFDS would look for the package below crosstrainer_jax/, where an editable install has no datasets folder.
  pkg_dir_path = epath.Path(__file__).parent

  def __init__(self, settings: ManifestConfig, data_dir: str | os.PathLike[str]):
    self.settings = settings
    self.checked: dict[str, decoding.Decoded | video.VideoError] = {}
    self.name = settings.name
    super().__init__(data_dir=os.fspath(data_dir), file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=record.features_dict(),
      description=f'Own videos from the manifest {self.settings.manifest}.',
      # What looks at further videos must make frames of them in the same way.
      metadata=tfds.core.MetadataDict(fit=self.settings.fit),
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, Any]]]:
    del dl_manager  # nothing is downloaded
    config = self.settings
    plan = planning.make_plan(config)
    print(plan.describe())
    workers = config.workers or decoding.default_workers()
    if config.frames:
      decoding.decode_all(list(plan.jobs.values()), config.sampling, self.cache, workers)
      segments = _usable(plan, lambda path: decoding.load(plan.jobs[path], config.sampling, self.cache))
    else:
      self.checked = decoding.check_all(plan.jobs, config.sampling, workers)
      segments = _usable(plan, self._look)
    _report(plan, segments, self)
    if not segments:
      raise ManifestError(f'{config.manifest}: no clip can be made of it; the reasons are in {self.report}')
    by_split: dict[str, list[windows.Segment]] = {}
    for segment in segments:
      by_split.setdefault(plan.splits[segment.row.participant], []).append(segment)
    return {split: self._generate_examples(plan, members) for split, members in sorted(by_split.items())}

  def _generate_examples(self, plan: Plan, segments: list[windows.Segment]) -> Iterator[tuple[str, Any]]:
    if not self.settings.frames:
      yield from self._without_frames(plan, segments)
      return
    videos: tuple[str, ...] = ()
    views: list[decoding.Decoded] = []
    with Progress('writing', len(segments), 'clips') as progress:
      for segment in segments:
        if segment.row.videos != videos:  # segments of one recording follow each other
          videos = segment.row.videos
          views = [decoding.load(plan.jobs[path], self.settings.sampling, self.cache) for path in videos]
        numbers = [plan.places[segment.clip_id, path] for path in videos]
        clip = _clip(segment, self.settings.name)
        clip.frames = np.stack([view.frames[n] for view, n in zip(views, numbers, strict=True)])
        clip.frame_times = np.stack([view.times[n] for view, n in zip(views, numbers, strict=True)])
        yield segment.clip_id, clip.to_example()
        progress.advance()

  def _without_frames(self, plan: Plan, segments: list[windows.Segment]) -> Iterator[tuple[str, Any]]:
    """Records whose frames are asked of the videos later, at the times that they name."""
    for segment in segments:
      clip = _clip(segment, self.settings.name)
      clip.frame_times = np.stack(
        [self._look(path).times[plan.places[segment.clip_id, path]] for path in segment.row.videos]
      )
      yield segment.clip_id, clip.to_example()

  def _look(self, path: str) -> decoding.Decoded:
    """What is known of a video whose frames are left where they are. Raises the VideoError that it gave."""
    found = self.checked[path]
    if isinstance(found, video.VideoError):
      raise found
    return found

  @property
  def folder(self) -> pathlib.Path:
    """Holds the versions, the report and, during an import, the cache."""
    return pathlib.Path(self.data_dir).parent

  @property
  def report(self) -> pathlib.Path:
    return self.folder / recordings.IMPORT_FILE

  @property
  def cache(self) -> pathlib.Path:
    return self.folder / '.decoded'


def prepare(
  manifest_path: str | os.PathLike[str],
  data_dir: str | os.PathLike[str],
  name: str,
  *,
  overwrite: bool = False,
  **config: Any,
) -> tfds.core.DatasetBuilder:
  """Imports a manifest as the dataset `name` below `data_dir`; returns the builder that reads it.

  `config`: fields of `ManifestConfig`. The same manifest, videos and settings again return at once; others under the
  same name need `overwrite`. Raises ManifestError, FileNotFoundError, and ValueError for a bad setting.
  """
  settings = ManifestConfig(name=name, manifest=os.fspath(manifest_path), **config)
  if name in tfds.list_builders(with_community_datasets=False):
    raise ManifestError(f'{name!r} is a dataset of TFDS, which would be read in place of yours; choose another name')
  with quiet_tfds():
    writer = Manifest(settings, data_dir)
    records = pathlib.Path(writer.data_dir)
    if _is_new(writer, overwrite):
      for left in [
        *writer.folder.glob('*incomplete*'),
        *writer.folder.glob(records.name),
      ]:  # of a killed import, or old
        shutil.rmtree(left)
      writer = Manifest(settings, data_dir)
      writer.download_and_prepare(download_dir=writer.cache)  # a folder that TFDS makes and nothing needs
      shutil.rmtree(writer.cache)
    reader = tfds.builder_from_directory(records)
  splits = reader.info.splits.values()
  size = planning.amount(sum(s.num_bytes for s in splits))
  print(f'{records}: {sum(s.num_examples for s in splits)} clips, {size}')
  return reader


def _is_new(writer: Manifest, overwrite: bool) -> bool:
  """Whether there is something to do. Raises ManifestError rather than replace what was made otherwise."""
  mark = planning.fingerprint(writer.settings)
  if not pathlib.Path(writer.data_dir).exists():
    return True
  if not writer.report.exists():
    raise ManifestError(f'{writer.folder} holds a dataset that is no import of own videos; choose another name')
  before = json.loads(writer.report.read_text())
  if before['fingerprint'] == mark:
    print(f'{writer.data_dir}: prepared already')
    return False
  if not overwrite:
    changes = _changes(before['settings'], writer.settings.content()) or 'the manifest or its files'
    raise ManifestError(f'{writer.data_dir} was made otherwise ({changes}); choose another name, or overwrite')
  return True


def _usable(plan: Plan, look: Callable[[str], decoding.Decoded]) -> list[windows.Segment]:
  """The segments whose frames are all there, by a `look` at each path; the others are added to the plan's skips."""
  usable = []
  for videos, group in itertools.groupby(plan.segments, key=lambda s: s.row.videos):
    members = list(group)
    try:
      views = {path: look(path) for path in videos}
    except video.VideoError as error:
      path = next(p for p in videos if os.fspath(plan.jobs[p].file) == error.path)
      plan.skips += [windows.Skip(s.row.line, path, error.reason, error.detail) for s in members]
      continue
    for segment in members:
      numbers = {path: plan.places[segment.clip_id, path] for path in videos}
      missing = {path: int(view.missing[numbers[path]]) for path, view in views.items()}
      worst = max(missing, key=lambda path: missing[path])
      if missing[worst]:
        detail = f'{missing[worst]} frames missing at {segment.start:.2f}–{segment.end:.2f} s'
        plan.skips.append(windows.Skip(segment.row.line, worst, video.TRUNCATED, detail))
      elif all(np.isnan(view.times[numbers[path]]).all() for path, view in views.items()):
        detail = f'{segment.start:.2f}–{segment.end:.2f} s'
        plan.skips.append(windows.Skip(segment.row.line, videos[0], NO_FRAMES, detail))
      else:
        usable.append(segment)
  return usable


def _clip(segment: windows.Segment, dataset: str) -> record.Clip:
  """The record without its frames."""
  row = segment.row
  return record.Clip(
    clip_id=segment.clip_id,
    dataset=dataset,
    sport=row.sport,
    skill=row.skill,
    participant=row.participant,
    take=row.take,
    views=list(row.views),
    commentary=segment.commentary,
    commentary_time=segment.time,
    window=np.array([segment.start, segment.end], np.float32),
    faults=list(row.faults or ()),
    has_faults=row.faults is not None,
    proficiency=row.proficiency,
    provenance=windows.provenance(row),
    licence=row.licence,
  )


def _report(plan: Plan, segments: list[windows.Segment], builder: Manifest) -> None:
  """Prints what was skipped and why, and writes it beside the dataset."""
  content = {
    'fingerprint': planning.fingerprint(builder.settings),
    'settings': builder.settings.content(),
    'rows': len(plan.rows),
    'videos': len(plan.jobs),
    'clips': len(segments),
    'notes': dict(plan.notes),
    'skipped': dict(Counter(s.reason for s in plan.skips)),
    'skips': [dataclasses.asdict(s) for s in plan.skips],
  }
  if not builder.settings.frames:
    files = {path: os.path.abspath(plan.jobs[path].file) for s in segments for path in s.row.videos}
    content['recordings'] = {s.clip_id: [files[path] for path in s.row.videos] for s in segments}
    content['identities'] = {file: recordings.identify(file) for file in files.values()}
  write_atomically(builder.report, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
  print(planning.describe_skips(plan.skips) or 'nothing was skipped')


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
  return ', '.join(f'{k} {before[k]} → {after[k]}' for k in after if k in before and before[k] != after[k])
