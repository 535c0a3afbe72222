"""Clips with the answers that this package gives to them, so that a deployment elsewhere can be checked.

`clips.safetensors`: features float16[N, V, S, D] and valid bool[N, V, S]; names of clips and sports in its header.
`expected.json`: greedy answers, as token ids (the end token included) and as text.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from crosstrainer_jax.inference import second_encoding
from crosstrainer_jax.inference.assessment import Assessor, Video
from crosstrainer_jax.inference.encoding import encode_in_batches, fitted, make_encode, to_common_shape
from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.input import examples, prompts, splits
from crosstrainer_jax.input.record import LEVELS
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.training.stages import Blueprint
from crosstrainer_jax.weights.files import write_tensors

CLIPS, EXPECTED = 'clips.safetensors', 'expected.json'


def choose(trained: Trained, source: ClipSource, count: int) -> list[int]:
  """At most `count` test clips of the run, evenly drawn: they lie sport by sport."""
  test = splits.split_of(source.infos(), trained.config).test
  return [test[i] for i in np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(int))]


@dataclasses.dataclass(frozen=True)
class Seen:
  """Clips as L is given them: features float16[N, V, S, D], and valid bool[N, V, S]."""

  clip_ids: list[str]
  sports: list[str]
  features: np.ndarray
  valid: np.ndarray

  def write(self, path: Path) -> None:
    names = {'clip_ids': json.dumps(self.clip_ids), 'sports': json.dumps(self.sports)}
    write_tensors(path, {'features': self.features, 'valid': self.valid}, names)


def look(trained: Trained, params: nnx.State | None, source: ClipSource, indices: Sequence[int]) -> Seen:
  """Reads the clips `indices` of `source`, and encodes what is not encoded already.

  Args:
    params: of the model; None will do where f_v is no part of it.
  """
  clips, encoder = source.infos(), trained.encoder
  shape = to_common_shape(clips, encoder)
  chosen = [clips[i] for i in indices]
  times = np.stack([clip.frame_times for clip in chosen])
  if encoder.by_second and trained.joint is None:
    plan = second_encoding.make_plan(source, clips, encoder)
    second_encoding.encode(plan, encoder, trained.config.encoder.batch_size)
    features = plan.clip_features().gather(indices)
  else:
    records = [source[i] for i in indices]
    frames = np.stack([fitted(clip.frames, clip.frame_times, encoder.frame_size, shape)[0] for clip in records])
    encode = make_encode(trained.trained_encoder(params), trained.mesh)
    features = encode_in_batches(encode, frames, times, trained.batch_size(len(indices)))
  valid = np.stack([trained.text.valid(row, trained.card.seconds) for row in times])
  return Seen([clip.clip_id for clip in chosen], [clip.sport for clip in chosen], features, valid)


def write_answers(path: Path, trained: Trained, blueprint: Blueprint, params: nnx.State, seen: Seen) -> None:
  """Writes what the model answers to clips, and in which type it computed."""
  rows = answer(trained, blueprint, params, seen)
  named = [
    {'clip_id': clip, 'sport': sport, **row} for clip, sport, row in zip(seen.clip_ids, seen.sports, rows, strict=True)
  ]
  clips = ',\n'.join('  ' + json.dumps(row, ensure_ascii=False) for row in named)
  path.write_text(f'{{\n "dtype": "{trained.config.decoder.dtype}",\n "clips": [\n{clips}\n ]\n}}\n', encoding='utf-8')


def answer(trained: Trained, blueprint: Blueprint, params: nnx.State, seen: Seen) -> list[dict[str, Any]]:
  """For each clip `attribute_tokens`, `attributes`, `feedback_tokens`, `feedback`, and `level` where there is a probe.

  Both passes are greedy.
  """
  text, limits = trained.text, trained.config.eval
  video: Video = {'features': seen.features}
  assessor = Assessor(blueprint, params, text, trained.mesh, trained.batch_size(len(seen.sports)))
  # Accelerators may multiply float32 in a shorter type by default; what others are to find again is computed exactly.
  with jax.default_matmul_precision('float32'):
    asked = [text.prompt(examples.ATTRIBUTES, sport) for sport in seen.sports]
    first = assessor.write(asked, video, seen.valid, limits.max_attribute_tokens)
    named = [prompts.parse_attributes(assessor.text(ids)) for ids in first]
    asked = [text.prompt(examples.FEEDBACK, sport, listed) for sport, listed in zip(seen.sports, named, strict=True)]
    second = assessor.write(asked, video, seen.valid, limits.max_feedback_tokens)
    answers: list[dict[str, Any]] = [
      {
        'attribute_tokens': one,
        'attributes': listed,
        'feedback_tokens': two,
        'feedback': assessor.text(two).strip(),
      }
      for one, listed, two in zip(first, named, second, strict=True)
    ]
    if (probe := trained.probe) is not None:
      levels = np.asarray(probe.logits(assessor.pooled(video, seen.valid))).argmax(1)
      answers = [{**given, 'level': LEVELS[level]} for given, level in zip(answers, levels, strict=True)]
  return answers
