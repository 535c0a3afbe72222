"""What an update consists of: clips, the tokens of a clip, and the packed rows that hold them.

Views, seconds and lengths of texts are known once data is prepared. Before that they are assumptions, printed as such.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import ml_collections
import numpy as np

from crosstrainer_jax.input import prompts
from crosstrainer_jax.input.packing import Shape, Sizes, choose_shape
from crosstrainer_jax.input.source import ClipSource

# Tokens of a word of English, in vocabularies of 128k: about 1.3.
TOKENS_OF_A_WORD = 1.3
# What a chat template puts around a prompt: Llama 3.1's has a system message with two dates.
TEMPLATE_TOKENS = 30


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip as the model meets it.

  Attributes:
    views, seconds: of the clip.
    each: video tokens of a second of a view.
    prompt_tokens: text around the video.
    target_tokens: what is to be written, with its end.
    source: where these numbers are from.
  """

  views: int = 5
  seconds: int = 10
  prompt_tokens: int = 65
  target_tokens: int = 40
  each: int = 1
  source: str = 'assumed: change them with --views, --seconds, --prompt_tokens, --target_tokens'

  def __post_init__(self) -> None:
    for name in ('views', 'seconds', 'prompt_tokens', 'target_tokens'):
      if getattr(self, name) < 1:
        raise ValueError(f'--{name} is {getattr(self, name)}, not at least 1')

  @property
  def view_tokens(self) -> int:
    """S, video tokens of a view."""
    return self.seconds * self.each

  @property
  def video_tokens(self) -> int:
    return self.views * self.view_tokens

  @property
  def tokens(self) -> int:
    return self.video_tokens + self.prompt_tokens + self.target_tokens


@dataclasses.dataclass(frozen=True)
class Workload:
  """One update: `clips` clips packed into rows of at most `longest_row` tokens.

  Attributes:
    shards: into so many parts the mesh splits the rows.
    accumulate: into so many parts, one after another, an update is cut.

  Raises:
    ValueError: a clip is longer than a row.
  """

  clip: Clip
  clips: int
  longest_row: int
  shards: int = 1
  accumulate: int = 1

  def __post_init__(self) -> None:
    if self.clip.tokens > self.longest_row:
      raise ValueError(
        f'a clip of {self.clip.tokens} tokens is longer than a row of {self.longest_row}: raise '
        'config.training.row_tokens, or give fewer --views or --seconds'
      )

  @functools.cached_property
  def shape(self) -> Shape:
    """The smallest arrays that hold the clips, as they are packed for training."""
    sizes = Sizes(np.full(self.clips, self.clip.tokens), np.full(self.clips, self.clip.target_tokens))
    return choose_shape([sizes], self.longest_row, self.shards * self.accumulate)

  @property
  def full_rows(self) -> int:
    """Rows of full length that the clips need."""
    return -(-self.clips // (self.longest_row // self.clip.tokens))

  @property
  def rows_at_once(self) -> int:
    """Rows on one part of the mesh at a time."""
    return self.shape.rows // (self.shards * self.accumulate)

  @property
  def positions(self) -> int:
    """Of all rows, padding included."""
    return self.shape.rows * self.shape.tokens

  @property
  def real_tokens(self) -> int:
    return self.clips * self.clip.tokens

  @property
  def fill(self) -> float:
    """Share of the computed positions that hold a real token."""
    return self.real_tokens / self.positions

  def warning(self, chips: int) -> str:
    """What is lost where there are more parts of the mesh than full rows; empty where they are filled."""
    if self.full_rows >= self.shards:
      return ''
    useful = 2 ** int(math.log2(self.full_rows))
    # A matrix that is split as well takes several chips to a row.
    chips_per_row = chips // self.shards
    enough = (self.shards - 1) * (self.longest_row // self.clip.tokens) + 1
    return (
      f'{self.clips} clips fill {self.full_rows} rows of {self.longest_row:,} tokens, fewer than the {self.shards} '
      f'parts of the mesh: rows become short, or stay empty, while every chip still gathers all weights. The most '
      f'chips that are of use is {useful * chips_per_row}; --config.training.batch_size={enough} would fill all '
      f'{chips}, which is another training, of fewer and larger updates'
    )


def make_workload(config: ml_collections.ConfigDict, clip: Clip, shards: int) -> Workload:
  """The update of `config`: its clips, packed into rows of `training.row_tokens`."""
  training = config.training
  return Workload(clip, training.batch_size, longest_row(config), shards, training.get('accumulate', 1))


def longest_row(config: ml_collections.ConfigDict) -> int:
  """Tokens of a packed row at most."""
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
    max(_seconds(list(clip.frame_times)) for clip in clips),
    math.ceil(prompt * TOKENS_OF_A_WORD) + template_tokens,
    math.ceil(float(np.quantile(words, 0.95)) * TOKENS_OF_A_WORD) + 1,
    source=f'{directory} ({len(clips)} clips; texts at the 95th percentile, {TOKENS_OF_A_WORD} tokens a word)',
  )


def _seconds(times: Sequence[np.ndarray]) -> int:
  """Seconds that the frames of a clip, at times float[V, T], take."""
  spans = []
  for view in times:
    real = view[np.isfinite(view)]
    if len(real) > 1:
      spans.append(float(real[-1] - real[0]) * len(real) / (len(real) - 1))
  return max(1, round(max(spans, default=1.0)))
