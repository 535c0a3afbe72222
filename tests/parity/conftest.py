"""Runs to export, and their exports, for each file of tests anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosstrainer_jax.inference import reference_clips
from crosstrainer_jax.inference.export import Export
from crosstrainer_jax.inference.trained import Trained, read_trained
from tests.inference import finished_runs
from tests.parity.exported_folders import CLIPS


@pytest.fixture(scope='module')
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Trained, Any, Path]]:
  """Exports a finished run; `more/` in it has clips of all parts of the data, with some seconds and views unseen."""

  def make(workdir: Path, **settings: Any) -> tuple[Trained, Any, Path]:
    folder = tmp_path_factory.mktemp('exported') / 'model'
    trained = read_trained(workdir)
    made = Export(trained, **settings)
    made.write(folder)
    model, source = made.model, trained.source()
    assert source is not None
    seen = reference_clips.look(trained, model[1], source, np.linspace(0, len(source) - 1, CLIPS).astype(int).tolist())
    random = np.random.default_rng(0)
    seen.valid[:, 1:] &= random.random(seen.valid[:, 1:].shape) < 0.5
    assert 0.2 < seen.valid.mean() < 0.9
    more = folder / 'more'
    more.mkdir()
    seen.write(more / reference_clips.CLIPS)
    reference_clips.write_answers(more / reference_clips.EXPECTED, trained, *model, seen)
    return trained, model, folder

  return make


@pytest.fixture(scope='module')
def adapted_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
  """The workdir of a run with LoRA on a pretrained decoder, which lies beside it as `base`."""

  def make(kind: str, *overrides: str, generation: dict[str, Any] | None = None, **settings: Any) -> Path:
    root = tmp_path_factory.mktemp('adapted')
    base = finished_runs.write_base(root / 'base', kind, **settings)
    if generation is not None:
      (base / 'generation_config.json').write_text(json.dumps(generation))
    return finished_runs.finish(finished_runs.config_on(base, *overrides), root / 'run', small_data)

  return make
