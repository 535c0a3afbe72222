"""TFDS builder of the embedded world: `prepare(data_dir)` makes it when it is not there yet.

Clips are rendered, compressed and encoded in spawned processes; this process writes them in the order of their index,
so the files are the same for any number of workers.
"""

import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import tensorflow_datasets as tfds
from tqdm import tqdm

from crosstrainer_jax.datasets.quiet import Quiet, quiet_tfds
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import SPLITS, World
from crosstrainer_jax.input import record
from crosstrainer_jax.input.buckets import as_path, in_bucket, upload
from crosstrainer_jax.input.turns import take_turns

# Level 3 takes half the time of zlib's default 6 for files a quarter larger.
_ZLIB_LEVEL = 3
_CHUNK = 16
# Where it is, the dataset is whole.
LAST_FILE = 'dataset_info.json'


@dataclasses.dataclass(eq=False, kw_only=True)
class SkillsimConfig(tfds.core.BuilderConfig):
  """The dials of `world.World` and how many clips there are per sport; the name follows from them."""

  name: str = ''
  seed: int = 0
  entanglement: float = 0.3
  commentary_noise: float = 0.1
  camera_shift: float = 0.0
  train_clips: int = 1200
  test_clips: int = 400

  def __post_init__(self) -> None:
    for field in ('train_clips', 'test_clips'):
      if getattr(self, field) < 1:
        raise ValueError(f'skillsim: {field} is {getattr(self, field)}, but must be at least 1.')
    self.world()
    dials = [f'{x:g}'.replace('.', '_') for x in (self.entanglement, self.commentary_noise, self.camera_shift)]
    self.name = f'seed{self.seed}-e{dials[0]}-n{dials[1]}-c{dials[2]}-{self.train_clips}x{self.test_clips}'

  def world(self) -> World:
    """The world that the clips show; the key to noise-free joints and clean twins of a prepared dataset.

    Raises:
      ValueError: a dial is out of range.
    """
    return World(self.seed, self.entanglement, self.commentary_noise, self.camera_shift)


class Skillsim(Quiet, tfds.core.GeneratorBasedBuilder):
  """Simulated athletes in four sports, filmed from three views, with an expert's commentary (see README.md beside
  this file).
  """

  VERSION = tfds.core.Version('2.0.0')
  RELEASE_NOTES = {'1.0.0': 'First world.', '2.0.0': 'Number and severity of faults show the level in one clip.'}
  BUILDER_CONFIGS = [SkillsimConfig()]

  def __init__(self, *, workers: int | None = None, **options: Any):
    """`workers` processes render (0: this one); None means one per core."""
    self._workers = (os.cpu_count() or 1) if workers is None else workers
    super().__init__(**options)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=record.features_dict(),
      disable_shuffling=True,
      license='Apache-2.0',
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict]]]:
    # What the workers yield is already encoded, zlib included, since that takes as long as rendering.
    self.info.features.encode_example = lambda example: example
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    config = self.builder_config
    count = {'train': config.train_clips, 'test': config.test_clips}[split]
    jobs = [(config, sport, split, index) for sport in SPORTS for index in range(count)]
    bar = tqdm(total=len(jobs), desc=f'skillsim {split}', unit='clip', disable=None)
    with bar, _rendered(jobs, self._workers) as examples:
      for key, example in enumerate(examples):
        bar.update()
        yield key, example


class _rendered:
  """Context of an ordered stream of encoded examples, whose processes end with it."""

  def __init__(self, jobs: list[tuple], workers: int):
    self._jobs, self._workers = jobs, min(workers, -(-len(jobs) // _CHUNK))
    self._pool: Any = None

  def __enter__(self) -> Iterator[dict]:
    if not self._workers:
      return map(_encode, self._jobs)
    # Fork is not safe once JAX runs threads in this process.
    self._pool = multiprocessing.get_context('spawn').Pool(self._workers, _start)
    return self._pool.imap(_encode, self._jobs, _CHUNK)

  def __exit__(self, *error: object) -> None:
    if self._pool:
      self._pool.terminate()
      self._pool.join()


def _start() -> None:
  cv2.setNumThreads(1)


_WORLDS: dict[str, World] = {}
_FEATURES = record.features_dict()


def _encode(job: tuple[SkillsimConfig, str, str, int]) -> dict:
  config, sport, split, index = job
  world = _WORLDS.setdefault(config.name, config.world())
  clip = world.clip(sport, split, index)
  frames, clip.frames = clip.frames, clip.frames[:0]
  example = _FEATURES.encode_example(clip.to_example())
  example['frames'] = {'value': zlib.compress(frames.tobytes(), _ZLIB_LEVEL), 'shape': frames.shape}
  return example


def prepare(data_dir: str | os.PathLike, workers: int | None = None, **config: Any) -> tfds.core.DatasetBuilder:
  """The builder of a complete dataset under `data_dir`, generated first when it is absent.

  Args:
    data_dir: where TFDS keeps prepared datasets.
    workers: processes that render; None means one per core, 0 none but this one.
    **config: fields of `SkillsimConfig`: seed, entanglement, commentary_noise, camera_shift, train_clips, test_clips.

  Raises:
    ValueError: an unknown or impossible setting.
  """
  known = {field.name for field in dataclasses.fields(SkillsimConfig)}
  unknown = sorted(set(config) - known)
  if unknown:
    raise ValueError(f'skillsim has no setting {", ".join(unknown)}; it has {", ".join(_settings())}.')
  chosen = SkillsimConfig(**config)
  # TFDS warns of configs that it does not list.
  chosen = Skillsim.builder_configs.setdefault(chosen.name, chosen)
  builder = Skillsim(workers=workers, data_dir=os.fspath(data_dir), config=chosen, file_format='array_record')
  place = as_path(builder.data_dir)
  if not (place / LAST_FILE).exists():
    with take_turns(place, f'the dataset {place}'):
      if not (place / LAST_FILE).exists():
        _make(chosen, workers, data_dir, place)
  return tfds.builder_from_directory(os.fspath(place))


def _make(chosen: SkillsimConfig, workers: int | None, data_dir: str | os.PathLike, place: pathlib.Path) -> None:
  """Makes the dataset at `place`; what lies in a bucket is made on this machine first, where records can be written."""
  if not in_bucket(place):
    builder = Skillsim(workers=workers, data_dir=os.fspath(data_dir), config=chosen, file_format='array_record')
    _generate(builder, place)
    return
  with tempfile.TemporaryDirectory() as elsewhere:
    builder = Skillsim(workers=workers, data_dir=elsewhere, config=chosen, file_format='array_record')
    _generate(builder, pathlib.Path(builder.data_dir))
    upload(pathlib.Path(builder.data_dir), place, LAST_FILE)


def estimate(data_dir: str | os.PathLike, workers: int | None = None, **config: Any) -> str:
  """What `prepare` would do, for the terminal, from a few clips that are made and thrown away."""
  chosen = SkillsimConfig(**config)
  place = as_path(data_dir) / 'skillsim' / chosen.name / str(Skillsim.VERSION)
  if place.exists():
    return f'{place}: prepared already'
  begin = time.monotonic()
  sizes = [len(_encode((chosen, sport, 'train', 0))['frames']['value']) for sport in SPORTS]
  seconds = (time.monotonic() - begin) / len(sizes)
  count = len(SPORTS) * (chosen.train_clips + chosen.test_clips)
  processes = (os.cpu_count() or 1) if workers is None else max(workers, 1)
  return (
    f'{place}: {count} clips, about {count * sum(sizes) / len(sizes) / 1e9:.2f} GB '
    f'and {count * seconds / processes:.0f} s in {processes} processes'
  )


def _generate(builder: Skillsim, place: pathlib.Path) -> None:
  for leftover in place.parent.glob(f'*incomplete*{place.name}*'):
    print(f'skillsim: removing {leftover}, left by an interrupted run.')
    shutil.rmtree(leftover)
  begin = time.monotonic()
  with quiet_tfds():  # our bar counts clips over all processes
    builder.download_and_prepare()
  count = sum(split.num_examples for split in builder.info.splits.values())
  print(f'skillsim: {count} clips in {time.monotonic() - begin:.0f} s under {place}')


def world(**config: Any) -> World:
  """The world of a dataset that `prepare` made with the same settings."""
  return SkillsimConfig(**config).world()


def _settings() -> list[str]:
  return [field.name for field in dataclasses.fields(SkillsimConfig) if field.name in SkillsimConfig.__annotations__]
