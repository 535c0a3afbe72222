"""A finished run, opened to be used: what `assess` and `export` need of its workdir."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.input import examples, video
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.recorded_config import CONFIG_FILE, recorded_config
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models import encoders, pretrained, qwen2_5_vl
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.proficiency import Probe
from crosstrainer_jax.training import sharding, stages

MODEL_FILE = 'model.json'
# The stage whose parameters are the model.
FOLDER = 'stage2'
BATCH = 8


@dataclasses.dataclass(frozen=True)
class Card:
  """What one must know of a trained model to use it, kept as `model.json` in its workdir.

  Attributes:
    dataset, sports: what it was trained on.
    simulated: whether nobody real was in the training videos.
    views: number of views that it takes at most; missing ones are left out, as view dropout taught it.
    seconds: of a view, each a video token of most encoders; frames: T of a window, at the encoder's frames per second.
    fit: how a frame becomes a square, as in the training data.
    frame_size: height and width of those squares; 0 for the encoder's own, which frames straight from videos have.
    threshold: probability below which an attribute is "not sure"; precision: of attributes above it, on validation.
    encoder: fingerprint of the video encoder that it was trained on.
    validation_clips: on which the threshold was set; without any it is never reached.
  """

  dataset: str
  sports: list[str]
  simulated: bool
  views: int
  seconds: int
  frames: int
  fit: video.Fit
  threshold: float
  precision: float
  encoder: str
  validation_clips: int
  frame_size: int = 0

  def write(self, workdir: str | Path) -> None:
    write_atomically(as_path(workdir) / MODEL_FILE, json.dumps(dataclasses.asdict(self), indent=1) + '\n')

  @classmethod
  def read(cls, workdir: str | Path) -> 'Card':
    path = as_path(workdir) / MODEL_FILE
    if not path.is_file():
      if (as_path(workdir) / CONFIG_FILE).is_file():
        remedy = 'The run is not finished: start its launch command again, it resumes'
      else:
        remedy = 'Train one: ./launch_tpu.sh configs/cross_sport.py'
      raise FileNotFoundError(f'{workdir}: no trained model here ({MODEL_FILE} is missing). {remedy}')
    # Earlier versions did not write it down.
    values = {'frame_size': 0, **json.loads(path.read_text())}
    if values.keys() != {field.name for field in dataclasses.fields(cls)}:
      raise ValueError(f'{path} was written by another version of this package: start the training command again')
    return cls(**values)


@dataclasses.dataclass(frozen=True)
class Trained:
  """The parts of a finished run but the parameters of f_m and L, which `load` reads.

  Attributes:
    base: the pretrained L; None where it started from nothing.
    encoder: f_v as training began: what it has become, where it trained too, is among the parameters.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  card: Card
  base: pretrained.Pretrained | None
  text: examples.PromptTokenizer
  encoder: encoders.Encoder

  @functools.cached_property
  def mesh(self) -> Mesh:
    """The run's mesh over the devices of this machine; where its shape does not fit them, all in a row, or one alone.

    What was trained on many devices need not fit into the memory of one.
    """
    devices = jax.local_devices()
    for shape in (self.config.mesh, (1, -1, 1)) if len(devices) > 1 else ():
      with contextlib.suppress(ValueError):
        mesh = sharding.make_mesh(shape, devices)
        sharding.state_shardings(self.shapes, mesh)
        return mesh
    return sharding.make_mesh((1, 1, 1), devices[:1])

  def batch_size(self, rows: int, most: int | None = None) -> int:
    """How many of `rows` are computed at once: at most `most` (`BATCH`), rounded up to what the mesh divides."""
    shards = sharding.data_shards(self.mesh)
    return -(-min(most or BATCH, rows) // shards) * shards

  @property
  def frame_size(self) -> int:
    """Height and width of the frames that f_v was given."""
    return self.card.frame_size or int(self.encoder.config.image_size)

  @property
  def joint(self) -> encoders.Encoder | None:
    """f_v where it is a part of the model."""
    return self.encoder if self.config.encoder.source == 'frames' else None

  @property
  def decoder(self) -> DecoderConfig:
    """The config of L."""
    config: DecoderConfig = pretrained.fresh(self.config, self.text.rows) if self.base is None else self.base.config
    return config

  @functools.cached_property
  def shapes(self) -> nnx.State:
    """Abstract parameters of the model."""
    sizes = self.text.rows, self.encoder.config.feature_dim, self.text.video_id
    create = stages.architecture(self.config, *sizes, encoder=self.joint)
    return nnx.split(nnx.eval_shape(create), nnx.Param, ...)[1]

  @property
  def environment(self) -> dict[str, Any]:
    """What the run recorded of itself; {} where that is lost."""
    path = self.workdir / 'environment.json'
    return dict(json.loads(path.read_text())) if path.is_file() else {}

  def source(self) -> ClipSource | None:
    """The dataset of the run; None where it is no longer there, or another lies in its place."""
    recorded = self.environment
    try:
      source = ClipSource(recorded.get('dataset', ''))
    except FileNotFoundError:
      return None
    return source if source.fingerprint == recorded.get('data_fingerprint') else None

  @property
  def probe(self) -> Probe | None:
    return Probe.load(self.workdir / 'probe' / 'probe.npz')

  def load(self, folder: str = FOLDER) -> tuple[stages.Blueprint, nnx.State]:
    """The model, with the parameters that the stage `folder` left.

    Raises:
      FileNotFoundError, ValueError: it has left none, or this is the run of another verb.
    """
    if (self.workdir / 'retrieval.json').is_file():
      raise ValueError(f'{self.workdir} is a run of retrieve, which assesses nothing: name it with --library')
    sizes = self.text.rows, self.encoder.config.feature_dim, self.text.video_id
    blueprint, initial = stages.build(self.config, *sizes, self.config.seed, self.mesh, self.joint)
    return blueprint, stages.load_params(self.workdir / folder, blueprint, initial)

  def trained_encoder(self, params: nnx.State | None) -> encoders.Encoder:
    """f_v as the model of `params` sees with it."""
    if self.joint is None:
      return self.encoder
    assert params is not None, 'f_v is a part of the model'
    return dataclasses.replace(self.encoder, params=params['encoder'])


def read_trained(
  workdir: str | Path,
  config: Any = None,
  encoder_weights: str = '',
  decoder_weights: str = '',
  option: str = '--',
) -> Trained:
  """Opens a finished run.

  Args:
    config: another config than the one recorded there.
    encoder_weights, decoder_weights: where the weights lie now that the run was trained from, if elsewhere.
    option: what the options that name those begin with, for messages.

  Raises:
    FileNotFoundError: something is missing there; the message says what.
    ValueError: it was trained on the features of another video encoder, or from another L.
  """
  workdir = as_path(workdir)
  config = recorded_config(workdir) if config is None else config.copy_and_resolve_references()
  for part, weights in (('encoder', encoder_weights), ('decoder', decoder_weights)):
    if not weights:
      continue
    if not config[part].get('weights'):
      raise ValueError(f'{option}{part}_weights {weights}: the L of {workdir} started from nothing')
    if config.mapper.get('weights') == config[part].weights:  # one model, of which f_m is a part
      config.mapper.weights = weights
    config[part].weights = weights
    if Path(weights).exists():
      config[part].revision = ''
  card = Card.read(workdir)
  with _found(workdir, 'decoder', option):
    base = pretrained.find(config)
  eyes = config.encoder
  with _found(workdir, 'encoder', option):
    encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  if encoder.fingerprint != card.encoder:
    raise ValueError(
      f'{workdir} was trained with the video encoder {card.encoder}, but config.encoder.weights='
      f'{eyes.weights!r} is now {encoder.fingerprint}. Train it again, or name its weights with '
      f'{option}encoder_weights.'
    )
  text = prompt_tokenizer(workdir / 'tokenizer', config, encoder, base, card.views, card.seconds)
  trained = Trained(workdir, config, card, base, text, encoder)
  if base is not None:
    recorded = trained.environment.get('decoder_fingerprint', base.fingerprint)
    if recorded != base.fingerprint:
      raise ValueError(
        f'{workdir} was trained from the L {recorded}, but {base.directory} is now {base.fingerprint}. '
        f'Name the weights that it was trained from with {option}decoder_weights.'
      )
  return trained


def prompt_tokenizer(
  folder: Path,
  config: ml_collections.ConfigDict,
  encoder: encoders.Encoder,
  base: pretrained.Pretrained | None,
  views: int,
  seconds: int,
) -> examples.PromptTokenizer:
  """The words of a run, for clips of so many views and seconds.

  Args:
    folder: of the tokenizer.
    base: the pretrained L, if any.

  Raises:
    ValueError: an f_v that makes pictures beside an L that does not read places in them.
  """
  second, rows, pictures = encoder.second, None if base is None else base.config.vocab_size, None
  if base is not None and base.sees:
    whole = qwen2_5_vl.read_config(base.directory)
    grid = second._replace(steps=seconds * second.steps)
    pictures = examples.Pictures(grid, second.tokens, whole.vision_start_token_id, whole.vision_end_token_id)
  elif second.tokens > 1:
    raise ValueError(
      f'{encoder.name} makes {second.tokens} tokens of a second, each at its place in a picture, which only its own L '
      'reads: name the same directory as decoder.weights'
    )
  return examples.PromptTokenizer.load(folder, views * seconds * second.tokens, config.prompt.k, rows, pictures)


@contextlib.contextmanager
def _found(workdir: Path, part: str, option: str) -> Iterator[None]:
  """Says of weights that are not there which run wants them, and what to do."""
  try:
    yield
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{error}\n{workdir / CONFIG_FILE} names them as {part}.weights. Where they lie elsewhere now, say so: '
      f'{option}{part}_weights PATH'
    ) from error
