"""A library of clips with narration as what towers are trained from: parts, features or frames, and words."""

from __future__ import annotations

from pathlib import Path

import ml_collections

from crosstrainer_jax import distributed
from crosstrainer_jax.baselines.retrieval import Setting, ValidTokens
from crosstrainer_jax.inference.encoding import check_rate, to_common_shape
from crosstrainer_jax.inference.trained import prompt_tokenizer
from crosstrainer_jax.input import splits, tokenizer
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models import encoders
from crosstrainer_jax.provenance import claim_workdir
from crosstrainer_jax.run import Video, cached_features
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.telemetry import timed


def open_library(config: ml_collections.ConfigDict, workdir: Path, directory: Path) -> tuple[Setting, list[int]]:
  """What the rows are trained from, and the indices of the test clips.

  Raises:
    SettingsError: the workdir belongs to another config, to other data or to another encoder.
  """
  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)
  source = ClipSource(directory)
  eyes = config.encoder
  encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  fingerprints = {'data_fingerprint': source.fingerprint, 'encoder_fingerprint': encoder.fingerprint}
  claim_workdir(workdir, config, fingerprints, dataset=str(source.directory.absolute()))
  clips = source.infos()
  split = splits.split_of(clips, config)
  train, test = ([i for i in part if clips[i].commentary.strip()] for part in (split.train, split.test))
  with timed('video features'):
    check_rate((clip.frame_times for clip in clips), encoder)
    shape = to_common_shape(clips, encoder)
    frames = eyes.source == 'frames'
    cache = None if frames else cached_features(source, clips, encoder, mesh, eyes.batch_size, shape)
  with distributed.first('tokenizer'):
    folder = workdir / 'tokenizer'
    if not (folder / tokenizer.LAST_FILE).is_file():
      texts = (f' {text}' for i in train for text in (clips[i].commentary, clips[i].sport, clips[i].skill))
      tokenizer.train_tokenizer(texts, config.tokenizer.vocab_size, folder, ())
  seconds = shape[1] // encoder.config.frames_per_token
  words = prompt_tokenizer(folder, config, encoder, None, shape[0], seconds)
  return Setting(
    workdir,
    clips,
    train,
    split.validation,
    Video(cache, source, encoder.frame_size, shape),
    ValidTokens(clips, words, seconds),
    words,
    mesh,
    config,
    encoder if frames else None,
  ), test
