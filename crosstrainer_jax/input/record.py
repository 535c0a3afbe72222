"""The record: one clip of one person performing one skill, as every room of the project sees it.

A `Clip` is what a TFDS builder in `data/` writes and what the Grain pipeline reads. The table is the single description
of the format:

| field | type | meaning |
|---|---|---|
| `clip_id` | str | unique within its dataset, stable over rebuilds |
| `dataset` | str | builder name, for example `skillsim` |
| `sport`, `skill` | str | superclass and subclass (drill, exercise) of the paper, section 3 |
| `participant`, `take` | str | the person, and the uninterrupted recording; splits never cut through either |
| `views` | list[str] | one name per view, for example `close`, `left`, `right` |
| `frames` | uint8[V, T, H, W, 3] | RGB; a view shorter than `T` is padded with zeros. Empty without frames |
| `frame_times` | float32[V, T] | seconds in the source video; NaN where a frame is padding |
| `features` | float16[V, S, D] | cached outputs of a frozen encoder f_v; empty when only frames are stored |
| `encoder` | str | fingerprint of the encoder that made `features`, "" when there are none |
| `commentary` | str | what the expert said; "" when nobody did |
| `expert` | str | who said it, "" when unknown |
| `prefix` | str | fixed words that the dataset's own files put before the answer; never part of `commentary` |
| `commentary_time` | float32 | time point t of the commentary, seconds; NaN without commentary |
| `window` | float32[2] | [t - mu1, t + mu2] clipped to the video, seconds |
| `correct`, `incorrect` | list[str] | skill-attributes of the commentary (paper section 3.3); empty before discovery |
| `faults` | list[str] | the faults truly present, where the dataset knows them (simulation, hand labels) |
| `has_faults` | bool | whether `faults` is known: an empty list is then a faultless clip, not an unknown one |
| `proficiency` | int32 | index into `LEVELS`, -1 when unknown |
| `provenance` | str | where the clip comes from: a relative path, a URL, or the generator and its seed |
| `licence` | str | SPDX identifier or a sentence |
| `extra` | str | a JSON object of what this dataset alone has, such as drawings and ratings; "" for nothing |
| `token_lengths` | int32[2] | tokens of the F_a and the F_t example (prompt, video, target); 0: not yet tokenised |

Absent arrays are 0-size, since TFDS has no optional feature. Records of earlier versions lack `expert`, `prefix` and
`extra`, and are read as if these were empty.

`token_lengths` belongs to one tokenizer and one encoder, so only a builder that has both fixed can fill it. Those here
leave it 0: a run learns its tokenizer from its own training part, after the records are written, and counts the tokens
itself (`pipeline.Stage.sizes`).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# The four classes of the paper (section 4.1), from least to most skilled.
LEVELS = ('novice', 'intermediate', 'early expert', 'late expert')

# Texts that records of earlier versions lack.
LATER_FIELDS = ('expert', 'prefix', 'extra')


def _no_frames() -> np.ndarray:
  return np.zeros((0, 0, 0, 0, 3), np.uint8)


def _no_features() -> np.ndarray:
  return np.zeros((0, 0, 0), np.float16)


@dataclasses.dataclass
class Clip:
  """One record; see the table in the module's docstring."""

  clip_id: str
  dataset: str
  sport: str
  skill: str
  participant: str
  take: str
  views: list[str] = dataclasses.field(default_factory=list)
  frames: np.ndarray = dataclasses.field(default_factory=_no_frames)
  frame_times: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
  features: np.ndarray = dataclasses.field(default_factory=_no_features)
  encoder: str = ''
  commentary: str = ''
  expert: str = ''
  prefix: str = ''
  commentary_time: float = math.nan
  window: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2, np.float32))
  correct: list[str] = dataclasses.field(default_factory=list)
  incorrect: list[str] = dataclasses.field(default_factory=list)
  faults: list[str] = dataclasses.field(default_factory=list)
  has_faults: bool = False
  proficiency: int = -1
  provenance: str = ''
  licence: str = ''
  extra: str = ''
  token_lengths: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2, np.int32))

  def to_example(self) -> dict[str, Any]:
    """The dict that a TFDS builder yields for this clip."""
    example = dataclasses.asdict(self)
    example['commentary_time'] = np.float32(self.commentary_time)
    example['window'] = np.asarray(self.window, np.float32)
    return example

  @classmethod
  def from_example(cls, example: dict[str, Any]) -> 'Clip':
    """Inverse of `to_example`; accepts text as bytes, which is how it comes back from ArrayRecord."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
      if field.name in LATER_FIELDS and field.name not in example:
        continue
      value = example[field.name]
      if field.type is str or field.type == 'str':
        value = _text(value)
      elif field.type == list[str]:
        value = [_text(v) for v in value]
      elif field.type is bool:
        value = bool(value)
      elif field.type is int:
        value = int(value)
      elif field.type is float:
        value = float(value)
      values[field.name] = value
    return cls(**values)


def _text(value: Any) -> str:
  return value.decode('utf-8') if isinstance(value, bytes) else str(value)


def features_dict() -> tfds.features.FeaturesDict:
  """TFDS features of the record; every builder uses exactly these.

  Frames are zlib-compressed: rendered clips shrink about tenfold, and several unknown dimensions need an encoding.
  """
  text = tfds.features.Text()
  texts = tfds.features.Sequence(tfds.features.Text())

  def array(shape: tuple[int | None, ...], dtype: Any) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding='zlib')

  return tfds.features.FeaturesDict(
    {
      'clip_id': text,
      'dataset': text,
      'sport': text,
      'skill': text,
      'participant': text,
      'take': text,
      'views': texts,
      'frames': array((None, None, None, None, 3), np.uint8),
      'frame_times': array((None, None), np.float32),
      'features': array((None, None, None), np.float16),
      'encoder': text,
      'commentary': text,
      'expert': text,
      'prefix': text,
      'commentary_time': np.float32,
      'window': tfds.features.Tensor(shape=(2,), dtype=np.float32),
      'correct': texts,
      'incorrect': texts,
      'faults': texts,
      'has_faults': np.bool_,
      'proficiency': np.int32,
      'provenance': text,
      'licence': text,
      'extra': text,
      'token_lengths': tfds.features.Tensor(shape=(2,), dtype=np.int32),
    }
  )
