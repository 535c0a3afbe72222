"""A small world for the baselines: faults are visible in the features, people and sports are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crosstrainer_jax.baselines.prediction import Reference

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
