"""The TFDS builder of takes: what a `Source` tells, as records in ArrayRecord under the source's name or another.

```python
source = egoexo4d.source.EgoExo4D('/data/egoexo4d', sports=('soccer',))
builder = prepare(source, 'runs/datasets', mu1=5, mu2=5)
clip = record.Clip.from_example(builder.as_data_source('train')[0])
```

On this machine threads make the records of one take each, which wait on disk, so that a killed import goes on with the
takes that are left; then they are written in the order of the source. With `beam` the same work is a pipeline
(`beam_pipeline`), and a distributed runner shares it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from crosstrainer_jax.datasets.manifest import decoding
from crosstrainer_jax.datasets.manifest.plan import amount
from crosstrainer_jax.datasets.manifest.windows import Sampling
from crosstrainer_jax.datasets.quiet import Quiet, quiet_tfds
from crosstrainer_jax.datasets.takes import making
from crosstrainer_jax.datasets.takes.clips import Settings
from crosstrainer_jax.datasets.takes.journal import Finished, Journal
from crosstrainer_jax.datasets.takes.take import Source
from crosstrainer_jax.input import record, recordings, video
from crosstrainer_jax.input.files import replacing, write_atomically
from crosstrainer_jax.input.turns import take_turns

LOSSES_FILE = 'losses.jsonl'
# Records are read at random places, so files need not be many; none should be too large to move.
_SHARD_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class TakesConfig:
  """How clips are cut; `name` '' is the source's."""

  name: str = ''
  mu1: float = 5.0
  mu2: float = 5.0
  fps: float = 4.0
  size: int = 64
  fit: video.Fit = 'letterbox'
  frames: bool = True  # False: records without frames, for features that are made straight from the videos
  workers: int = 0  # 0: one per core

  def __post_init__(self) -> None:
    if self.name and not re.fullmatch(r'[A-Za-z][A-Za-z0-9_]*', self.name):
      raise ValueError(f'name {self.name!r} must be letters, digits and _, a letter first')
    self.sampling  # noqa: B018  (raises on bad values)

  @property
  def sampling(self) -> Sampling:
    return Sampling(self.mu1, self.mu2, self.fps, self.size, self.fit, 0.0, not self.frames)

  def settings(self, source: Source) -> Settings:
    return Settings(self.name or source.name, source.root, self.sampling, self.frames)

  def content(self) -> dict[str, Any]:
    """The settings that decide what the records hold."""
    return {name: getattr(self, name) for name in ('mu1', 'mu2', 'fps', 'size', 'fit', 'frames')}


class Takes(Quiet, tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Writes one dataset of takes. It is read without this class, through `tfds.builder` by its name."""

  VERSION = tfds.core.Version('1.0.0')
  # TFDS would look for the package below crosstrainer_jax/, where an editable install has no datasets folder.
  pkg_dir_path = epath.Path(__file__).parent

  def __init__(
    self, source: Source, config: TakesConfig, data_dir: str | os.PathLike[str], journal: Journal, beam: bool = False
  ):
    self.source, self.config, self.journal, self.beam = source, config, journal, beam
    self.name = config.name or source.name
    super().__init__(data_dir=os.fspath(data_dir), file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=record.features_dict(),
      description=f'Takes of {self.source.name} from {self.source.root}.',
      # What looks at further videos must make frames of them in the same way.
      metadata=tfds.core.MetadataDict(fit=self.config.fit),
      disable_shuffling=not self.beam,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    """For Beam; on this machine `_generate_splits` writes the records itself."""
    del dl_manager  # nothing is downloaded
    return {split: self._generate_examples(split) for split in self.journal.all_splits()}

  def _generate_examples(self, split: str) -> Any:
    from crosstrainer_jax.datasets.takes import beam_pipeline

    return beam_pipeline.clips_of_split(self.journal, split, self.config.settings(self.source), self.cache)

  def _generate_splits(self, dl_manager: Any, download_config: Any) -> Sequence[Any]:
    if self.beam:
      infos: Sequence[Any] = super()._generate_splits(dl_manager, download_config)
      return infos
    return [self._write_split(split) for split in self.journal.splits()]

  def _write_split(self, split: str) -> Any:
    """Records that wait on disk → the files of a split, without the buffer of a gigabyte in which TFDS shuffles."""
    template = self._get_filename_template(split_name=split)
    shards = list(_shards(self.journal.finished(split)))
    writer = self._example_writer()
    for number, takes in enumerate(shards):
      path = template.sharded_filepath(shard_index=number, num_shards=len(shards))
      numbered = enumerate(part for take in takes for part in making.read(self.cache / take.key))
      writer.write(path, numbered)
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=[sum(take.clips for take in takes) for takes in shards],
      num_bytes=sum(take.bytes for takes in shards for take in takes),
      filename_template=template,
    )

  @property
  def cache(self) -> pathlib.Path:
    return cache_of(pathlib.Path(self.data_dir).parent)


def cache_of(folder: pathlib.Path) -> pathlib.Path:
  """What an import keeps in the folder of its dataset until it is done."""
  return folder / '.takes'


def _shards(takes: Iterator[Finished]) -> Iterator[list[Finished]]:
  """Takes that follow each other, in groups of about `_SHARD_BYTES`."""
  group: list[Finished] = []
  for take in takes:
    if group and sum(other.bytes for other in group) + take.bytes > _SHARD_BYTES:
      yield group
      group = []
    group.append(take)
  if group:
    yield group


def prepare(
  source: Source,
  data_dir: str | os.PathLike[str],
  *,
  overwrite: bool = False,
  beam_options: Sequence[str] | None = None,
  **config: Any,
) -> tfds.core.DatasetBuilder:
  """Imports a source as a dataset below `data_dir`; returns the builder that reads it.

  The same source, files and settings again return at once; others under the same name need `overwrite`.

  Args:
    beam_options: those of a pipeline of Apache Beam, which then does the work; None for threads of this machine.
    config: fields of `TakesConfig`.

  Raises:
    FileNotFoundError, ValueError: something that cannot be imported, or a bad setting.
  """
  settings = TakesConfig(**config)
  name = settings.name or source.name
  if name in tfds.list_builders(with_community_datasets=False):
    raise ValueError(f'{name!r} is a dataset of TFDS, which would be read in place of yours; choose another --name')
  folder = pathlib.Path(data_dir) / name
  folder.parent.mkdir(parents=True, exist_ok=True)
  with take_turns(folder, f'the dataset {name}'):
    records = _import(source, settings, folder, overwrite, beam_options)
  reader = tfds.builder_from_directory(records)
  splits = reader.info.splits.values()
  size = amount(sum(s.num_bytes for s in splits))
  parts = ', '.join(f'{s.name} {s.num_examples}' for s in splits)
  print(f'{records}: {sum(s.num_examples for s in splits)} clips ({parts}), {size}')
  return reader


def _import(
  source: Source, settings: TakesConfig, folder: pathlib.Path, overwrite: bool, beam_options: Sequence[str] | None
) -> pathlib.Path:
  """Writes what is not there; returns the folder of the records."""
  cache = cache_of(folder)
  spent = not cache.exists()
  cache.mkdir(parents=True, exist_ok=True)
  journal = Journal(cache / 'journal.sqlite')
  try:
    mark = making.plan(source, settings.settings(source), journal)
    writer = Takes(source, settings, folder.parent, journal, beam_options is not None)
    records = pathlib.Path(writer.data_dir)
    if not _is_new(records, mark, source, settings, overwrite):
      spent = True
    else:
      takes, _ = journal.count()
      if not takes:
        raise ValueError(f'{source.root}: there is no take to import\n{describe_losses(journal)}'.rstrip())
      spent = False
      if beam_options is None:
        making.make_all(journal, settings.settings(source), cache, settings.workers or decoding.default_workers())
        if not journal.splits():
          raise ValueError(f'{source.root}: no clip can be made of it\n{describe_losses(journal)}')
      # before the records, which are whole with the last step
      _report(folder, mark, source, settings, journal)
      with quiet_tfds():
        # of a killed import, or old
        for left in [*folder.glob('*incomplete*'), *folder.glob(records.name)]:
          shutil.rmtree(left)
        _write(writer, beam_options)
      if beam_options is not None:  # which knows only now
        _report(folder, mark, source, settings, journal)
      _describe(journal, folder)
      spent = True
  finally:
    journal.close()
    if spent:
      shutil.rmtree(cache)
      if not any(folder.iterdir()):
        folder.rmdir()
  return records


def _write(writer: Takes, beam_options: Sequence[str] | None) -> None:
  if beam_options is None:
    writer.download_and_prepare(download_dir=writer.cache)  # a folder that TFDS makes and nothing needs
    return
  try:
    from crosstrainer_jax.datasets.takes import beam_pipeline
  except ModuleNotFoundError as error:
    raise ValueError(
      "--beam_options: Apache Beam is not installed; in an environment of its own: pip install 'crosstrainer_jax[beam]'"
    ) from error
  config = tfds.download.DownloadConfig(beam_options=beam_pipeline.options(beam_options))
  for left in writer.cache.glob('made-*'):
    left.unlink()
  try:
    writer.download_and_prepare(download_dir=writer.cache, download_config=config)
  except Exception as error:  # of the runner, of TFDS or of a worker
    lines = str(error).strip().splitlines() or [repr(error)]
    raise ValueError(f'the pipeline of Apache Beam failed: {lines[-1]}') from error
  beam_pipeline.gather(writer.journal, writer.cache)


def _is_new(records: pathlib.Path, mark: str, source: Source, settings: TakesConfig, overwrite: bool) -> bool:
  """Whether there is something to do. Raises ValueError rather than replace what was made otherwise."""
  if not records.exists():
    return True
  report = records.parent / recordings.IMPORT_FILE
  before = json.loads(report.read_text()) if report.is_file() else {}
  if 'source' not in before:
    raise ValueError(f'{records.parent} holds a dataset that is no import of {source.name}; choose another --name')
  if before['fingerprint'] == mark:
    print(f'{records}: prepared already')
    return False
  if not overwrite:
    now = _content(source, settings)
    changed = [f'{k} {before["settings"].get(k)} → {now[k]}' for k in now if before['settings'].get(k) != now[k]]
    why = ', '.join(changed) or 'the annotations or the videos'
    raise ValueError(f'{records} was made otherwise ({why}); choose another --name, or --overwrite')
  return True


def _content(source: Source, settings: TakesConfig) -> dict[str, Any]:
  content: dict[str, Any] = json.loads(json.dumps({**settings.content(), **source.content()}))
  return content


def _report(folder: pathlib.Path, mark: str, source: Source, settings: TakesConfig, journal: Journal) -> None:
  """Writes beside the dataset what was lost and why, and the videos that features are made from."""
  with replacing(folder / LOSSES_FILE) as fresh, fresh.open('w', encoding='utf-8') as file:
    for loss in journal.losses():
      file.write(json.dumps(dataclasses.asdict(loss), ensure_ascii=False) + '\n')
  by_take = not settings.frames
  if by_take:
    with replacing(folder / recordings.TAKES_FILE) as fresh, fresh.open('w', encoding='utf-8') as file:
      for line in journal.recordings():
        file.write(line + '\n')
  content = {
    'fingerprint': mark,
    'source': source.name,
    'root': os.path.abspath(source.root),
    'settings': _content(source, settings),
    **journal.totals(),
    recordings.BY_TAKE: by_take,
    'lost': [{'what': what, 'reason': why, 'count': n, 'first': list(ids)} for what, why, n, ids in journal.reasons()],
  }
  write_atomically(folder / recordings.IMPORT_FILE, json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def _describe(journal: Journal, folder: pathlib.Path) -> None:
  lost = describe_losses(journal)
  print(f'{lost}\n  all of them: {folder / LOSSES_FILE}' if lost else 'nothing was lost')
  totals = journal.totals()
  print(f'{totals["clips"]} clips of {totals["takes"]} takes by {totals["participants"]} participants')
  if crossing := totals['participants in several splits']:
    print(f'{crossing} participants are in several splits: a run counts them to the test part alone, if they are in it')


def describe_losses(journal: Journal) -> str:
  """A line for each reason, with its count and first cases; '' for none."""
  lines = [f'  {n} × {what}: {why} (first: {", ".join(ids)})' for what, why, n, ids in journal.reasons()]
  return '\n'.join(['lost:', *lines]) if lines else ''
