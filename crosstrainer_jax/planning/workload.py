"""What an update consists of: clips, the tokens of a clip, and the packed rows that hold them.

Views, seconds and lengths of texts are known once data is prepared. Before that they are assumptions, printed as such.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import ml_collections
import numpy as np

from crosstrainer_jax.input import prompts
from crosstrainer_jax.input.source import ClipSource

# Tokens of a word of English, in vocabularies of 128k: about 1.3.
TOKENS_OF_A_WORD = 1.3
# What a chat template puts around a prompt: Llama 3.1's has a system message with two dates.
TEMPLATE_TOKENS = 30


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip as the model meets it.

  Attributes:
    views, seconds: V and S, of which V * S are video tokens.
    prompt_tokens: text around the video.
    target_tokens: what is to be written, with its end.
    source: where these numbers are from.
  """

  views: int = 5
  seconds: int = 10
  prompt_tokens: int = 65
  target_tokens: int = 40
  source: str = 'assumed: change them with --views, --seconds, --prompt_tokens, --target_tokens'

  def __post_init__(self) -> None:
    for name in ('views', 'seconds', 'prompt_tokens', 'target_tokens'):
      if getattr(self, name) < 1:
        raise ValueError(f'--{name} is {getattr(self, name)}, not at least 1')

  @property
  def tokens(self) -> int:
    return self.views * self.seconds + self.prompt_tokens + self.target_tokens


@dataclasses.dataclass(frozen=True)
class Workload:
  """One update: `clips` clips packed into rows of `row_tokens`, the rows split over `shards` parts of the mesh.

  Raises:
    ValueError: a clip is longer than a row.
  """

  clip: Clip
  clips: int
  row_tokens: int
  shards: int = 1

  def __post_init__(self) -> None:
    if self.clip.tokens > self.row_tokens:
      raise ValueError(
        f'a clip of {self.clip.tokens} tokens is longer than a row of {self.row_tokens}: raise '
        'config.training.row_tokens, or give fewer --views or --seconds'
      )

  @property
  def clips_per_row(self) -> int:
    """K, the most clips that a row holds."""
    return self.row_tokens // self.clip.tokens

  @property
  def full_rows(self) -> int:
    """Rows that the clips need."""
    return -(-self.clips // self.clips_per_row)

  @property
  def rows(self) -> int:
    """R, the rows that are computed: as many as divide over the shards."""
    return -(-self.full_rows // self.shards) * self.shards

  @property
  def rows_per_shard(self) -> int:
    return self.rows // self.shards

  @property
  def real_tokens(self) -> int:
    return self.clips * self.clip.tokens

  @property
  def fill(self) -> float:
    """Share of the computed positions that hold a real token."""
    return self.real_tokens / (self.rows * self.row_tokens)

  @property
  def targets_per_row(self) -> int:
    """M, the most targets of a row."""
    return self.clips_per_row * self.clip.target_tokens

  def warning(self, chips: int) -> str:
    """What is lost where there are more parts of the mesh than rows; empty where they are filled."""
    if self.full_rows >= self.shards:
      return ''
    useful = 2 ** int(math.log2(self.full_rows))
    # A matrix that is split as well takes several chips to a row.
    chips_per_row = chips // self.shards
    enough = self.shards * self.clips_per_row
    return (
      f'{self.clips} clips fill {self.full_rows} rows of {self.row_tokens} tokens, but the mesh splits rows into '
      f'{self.shards} parts: {self.shards - self.full_rows} of them compute padding. The most chips that are of use is '
      f'{useful * chips_per_row}; or set --config.training.batch_size={enough} to fill all {chips} (another training: '
      'fewer, larger updates)'
    )

  def better_rows(self) -> int:
    """The length of rows, a multiple of 128, that fills the shards best without more rows to each than now."""
    per_row = -(-self.clips // self.rows)
    return min(self.row_tokens, -(-per_row * self.clip.tokens // 128) * 128)


def make_workload(config: ml_collections.ConfigDict, clip: Clip, shards: int) -> Workload:
  """The update of `config`: its clips, packed into rows of `training.row_tokens`."""
  return Workload(clip, config.training.batch_size, row_tokens(config), shards)


def row_tokens(config: ml_collections.ConfigDict) -> int:
  """Length of a packed row."""
  return int(config.training.get('row_tokens', 0) or config.decoder.max_position or 2048)


def of_dataset(directory: str | Path, template_tokens: int = TEMPLATE_TOKENS) -> Clip | None:
  """The clips of a prepared dataset, texts at the 95th percentile of lengths; None where nobody comments.

  Texts are counted in words, since the tokenizer may not be at hand.

  Args:
    directory: of the dataset (it holds `dataset_info.json`).
    template_tokens: what stands around a prompt.

  Raises:
    FileNotFoundError: nothing is prepared there.
  """
  clips = ClipSource(directory).infos()
  words = [len(clip.commentary.split()) for clip in clips if clip.commentary.strip()]
  if not words:
    return None
  prompt = len(prompts.feedback_prompt('rock climbing', ['balance', 'timing', 'hand positioning']).split())
  return Clip(
    max(len(clip.views) for clip in clips),
    max(_seconds(clip.frame_times) for clip in clips),
    math.ceil(prompt * TOKENS_OF_A_WORD) + template_tokens,
    math.ceil(float(np.quantile(words, 0.95)) * TOKENS_OF_A_WORD) + 1,
    f'{directory} ({len(clips)} clips; texts at the 95th percentile, {TOKENS_OF_A_WORD} tokens a word)',
  )


def _seconds(times: Sequence[np.ndarray]) -> int:
  """Seconds that the frames of a clip, at times float[V, T], take."""
  spans = []
  for view in times:
    real = view[np.isfinite(view)]
    if len(real) > 1:
      spans.append(float(real[-1] - real[0]) * len(real) / (len(real) - 1))
  return max(1, round(max(spans, default=1.0)))
