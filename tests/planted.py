"""A small world with planted relations: faults are visible in the features, people and sports are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.baselines.retrieval import Setting
from crosstrainer_jax.configs import compact
from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import train_tokenizer
from crosstrainer_jax.training import sharding

FAULTS = ('balance', 'knee bend', 'timing')
World = tuple[list[Reference], np.ndarray]


def _world(clips: int, seed: int, noise: float = 0.5) -> World:
  """References, and features float32[clips, 16] in which each fault has a direction."""
  rng = np.random.default_rng(seed)
  directions = np.random.default_rng(99).normal(size=(len(FAULTS), 16))
  present = rng.random((clips, len(FAULTS))) < (0.6, 0.3, 0.2)
  references = []
  for i, row in enumerate(present):
    faults = [fault for fault, there in zip(FAULTS, row, strict=True) if there]
    commentary = f'Work on {", ".join(faults)}.' if faults else 'Well done.'
    level = 3 - len(faults)
    references.append(
      Reference(f'{seed}-{i}', f'take{i // 2}', 'soccer', 'kick', f'person{i // 8}', faults, faults, commentary, level)
    )
  return references, (present @ directions + noise * rng.normal(size=(clips, 16))).astype(np.float32)


@pytest.fixture
def world() -> Callable[..., World]:
  return _world


@pytest.fixture(scope='session')
def retrieval_setting(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Setting]:
  """Makes the setting of a row that retrieves, on clips of `_world`: the last 60 of 180 are for the test."""
  references, features = _world(180, 0, noise=0.1)
  clips = [
    ClipInfo(
      r.clip_id, r.sport, r.skill, r.participant, r.take, 'train', ['a'], r.commentary, np.zeros((1, 4), np.float32),
      [fault for fault in FAULTS if fault not in r.attributes], r.attributes, r.attributes, True, r.level,
    )
    for r in references
  ]  # fmt: skip
  texts = [text for clip in clips for text in (clip.commentary, *clip.correct, *clip.incorrect)]
  words = train_tokenizer(texts, 320, tmp_path_factory.mktemp('words') / 'tokenizer')
  config = compact.preset()
  config.contrastive.width = config.contrastive.dim = 16
  config.contrastive.batch_size = 24
  config.contrastive.epochs = 12.0
  config.contrastive.optimizer.learning_rate = 1e-2
  config.training.view_dropout = 0.0

  def make(directory: Path, **contrastive: Any) -> Setting:
    chosen = config.copy_and_resolve_references()
    chosen.contrastive.update(contrastive)
    return Setting(
      directory, clips, list(range(90)), list(range(90, 120)), lambda i: {'features': features[i][None, None]},
      lambda indices: np.ones((len(indices), 1, 1), bool), PromptTokenizer(words, 1, 3), sharding.make_mesh(), chosen,
    )  # fmt: skip

  return make
