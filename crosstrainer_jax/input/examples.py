"""From one clip to the arrays of one training example, or of one prompt.

The `<video>` of a prompt becomes V x S placeholder tokens, views one after another (paper, section 4.2). A placeholder
whose view was dropped, or whose second has no frame, is left out. Most encoders make one token of a second, so that S
is seconds; one that makes a picture of it (Qwen2.5-VL) makes several, and its decoder reads of each where it lies.

A batch of training, the clips of one update, holds R rows of L tokens with at most K clips and M targets in each:

| array | | |
|---|---|---|
| `tokens` | int32[R, L] | of each clip the prompt with placeholders, then the target |
| `segment_ids` | int32[R, L] | 1, 2 … for the clips of a row, 0 for padding |
| `positions` | int32[R, L] | rotary positions, from 0 in every clip; int32[R, L, 3] for pictures (`mrope`) |
| `video_slots` | int32[R, L] | which of the row's K x V x S video tokens stands at a placeholder |
| `target_slots` | int32[R, M] | positions whose state predicts a target |
| `target_ids` | int32[R, M] | the targets |
| `target_weights` | float32[R, M] | 1, or 0 for padding |
| `features` | float16[R, K, V, S, D] | v', of a frozen encoder; or instead |
| `frames`, `frames_valid` | uint8[R, K, V, T, H, W, 3], bool[R, K, V, T] | pixels, where the encoder trains too |
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.input import mrope, prompts
from crosstrainer_jax.input.buckets import as_path, local_copy
from crosstrainer_jax.input.chat import Layout, layout_of
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import Words, load_tokenizer, padded_vocab_size

# The tasks of L: F_a, F_t, and feedback without attributes (the paper's "w/o two-stage" ablation).
ATTRIBUTES, FEEDBACK, DIRECT = 'attributes', 'feedback', 'direct'

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Tokens:
  """One example as token ids: prompt (with placeholders), then target (with the end token)."""

  prompt: list[int]
  target: list[int]


@dataclasses.dataclass(frozen=True)
class Pictures:
  """How a decoder that knows where a token lies in a picture is shown a view.

  Attributes:
    grid: of a view.
    each: tokens of a second.
    before, after: ids of the tokens that stand around a view.
  """

  grid: mrope.Grid
  each: int
  before: int
  after: int


class PromptTokenizer:
  """Text to token ids, for one tokenizer and one number of video tokens.

  Args:
    video_tokens: V * S.
    rows: of the decoder's embedding table; by default those of a decoder that is made for this tokenizer.
    layout: what stands around prompt and answer; by default what the tokenizer asks for.
    pictures: for a decoder with M-RoPE.

  Attributes:
    layout: what stands around prompt and answer.
    pictures: for a decoder with M-RoPE, else None.
    video_id: of the placeholder. A tokenizer without such a token has none in any text, and its placeholder is the
      first id behind the table.
    pad_id: fills rows.
    rows: of the embedding table.
    ends: tokens at which a text ends.
    banned: tokens that are no words: placeholders, and the rows that pad the table.
  """

  def __init__(
    self,
    words: Words,
    video_tokens: int,
    k: int,
    rows: int | None = None,
    layout: Layout | None = None,
    pictures: Pictures | None = None,
  ):
    self.words, self._video_tokens, self._k = words, video_tokens, k
    self.pictures = pictures
    self.layout = layout or layout_of(words)
    self._cache: dict[str, list[int]] = {}
    self.rows = rows = padded_vocab_size(words) if rows is None else rows
    if len(words) > rows:
      raise ValueError(
        f'the tokenizer has {len(words)} tokens, but the decoder only {rows}: they do not belong together'
      )
    self.video_id: int = words.get_vocab().get(prompts.VIDEO, rows)
    self.ends = self.layout.ends
    # In some vocabularies nothing, in others the end also pads.
    self.pad_id: int = self.ends[0] if words.pad_token_id is None else words.pad_token_id
    placeholders = {self.pad_id, self.pad_id if words.bos_token_id is None else words.bos_token_id, self.video_id}
    self.banned = (*sorted(placeholders - {rows, *self.ends}), *range(len(words), rows))

  @classmethod
  def load(
    cls, directory: str | Path, video_tokens: int, k: int, rows: int | None = None, pictures: Pictures | None = None
  ) -> 'PromptTokenizer':
    """Of a directory in the Hugging Face format, with the layout that it asks for."""
    directory = local_copy(as_path(directory))
    words = load_tokenizer(directory)
    return cls(words, video_tokens, k, rows, layout_of(words, directory), pictures)

  def valid(self, frame_times: Array, seconds: int) -> Array:
    """bool[V, S]: `valid_tokens` for the tokens that this decoder gets of a second."""
    return valid_tokens(frame_times, seconds, 1 if self.pictures is None else self.pictures.each)

  def prompt(self, task: str, sport: str, attributes: Sequence[str] = ()) -> list[int]:
    """Ids of a prompt, with placeholders and what stands around it."""
    if task == ATTRIBUTES:
      text = prompts.attribute_prompt(sport, self._k)
    elif task == FEEDBACK:
      text = prompts.feedback_prompt(sport, attributes)
    elif task == DIRECT:
      text = prompts.direct_prompt(sport)
    else:
      raise ValueError(f'no task {task!r}')
    before, after = text.split(prompts.VIDEO)
    return [*self.layout.before, *self.ids(before), *self.clip(), *self.ids(after), *self.layout.after]

  def tokens(self, task: str, clip: ClipInfo, attributes: Sequence[str] = (), sport: str = '') -> Tokens:
    """The example of `clip`: F_a's target is the clip's incorrect attributes, otherwise the commentary.

    Args:
      attributes: shown in the prompt of F_t.
      sport: what the prompt calls the clip's sport, if not by its name.
    """
    answer = prompts.serialize_attributes(clip.incorrect) if task == ATTRIBUTES else clip.commentary
    return Tokens(
      self.prompt(task, sport or clip.sport, attributes), [*self.ids(self.layout.space + answer), *self.layout.close]
    )

  def clip(self) -> list[int]:
    """What stands for a clip: placeholders, and what is around them."""
    if (pictures := self.pictures) is None:
      return [self.video_id] * self._video_tokens
    view = [pictures.before, *[self.video_id] * pictures.grid.tokens, pictures.after]
    return view * (self._video_tokens // pictures.grid.tokens)

  def text(self, text: str) -> list[int]:
    """Ids of a text that stands alone, such as a comment."""
    return self.ids(self.layout.space + text)

  def ids(self, text: str) -> list[int]:
    """Ids of a piece of text, in which nothing is a placeholder or a special token."""
    ids = self._cache.get(text)
    if ids is None:
      # A comment that contains "<video>" or "</s>" says these letters; it neither shows a video nor ends.
      ids = self.words.encode(text, add_special_tokens=False, split_special_tokens=True)
      self._cache[text] = ids
    return ids


def row_arrays(
  clips: Sequence[tuple[Tokens, Array]],
  length: int,
  targets: int,
  video_id: int,
  pad_id: int,
  pictures: Pictures | None = None,
) -> dict[str, Array]:
  """One row of a batch: the examples of several clips one after another, then padding.

  Args:
    clips: of each its tokens, and bool[V * S], False for the placeholders that are left out.
    length, targets: L and M.
    pictures: for a decoder with M-RoPE.

  Raises:
    ValueError: the clips need more than that.
  """
  parts = [prompt_ids([*tokens.prompt, *tokens.target], valid, video_id, pictures) for tokens, valid in clips]
  answers = [tokens.target for tokens, _ in clips]
  needed = sum(len(ids) for ids, _ in parts), sum(map(len, answers))
  if needed[0] > length or needed[1] > targets:
    raise ValueError(
      f'{len(clips)} clips of {needed[0]} tokens ({needed[1]} of them targets) do not fit into a row of {length} '
      f'({targets})'
    )
  row = {name: np.zeros(length, np.int32) for name in ('tokens', 'segment_ids', 'positions', 'video_slots')}
  row['tokens'][:] = pad_id
  if pictures is not None:
    row['positions'] = np.zeros((length, 3), np.int32)
  aims = {name: np.zeros(targets, np.int32) for name in ('target_slots', 'target_ids')}
  weights = np.zeros(targets, np.float32)
  start = first = 0
  for number, ((ids, slots), answer) in enumerate(zip(parts, answers, strict=True)):
    place = slice(start, start + len(ids))
    row['tokens'][place] = ids
    row['segment_ids'][place] = number + 1
    row['positions'][place] = positions(ids, slots, video_id, pictures)
    row['video_slots'][place] = np.where(ids == video_id, slots + number * len(clips[number][1]), 0)
    start = place.stop
    aim = slice(first, first + len(answer))
    # A token is predicted from the state of the one before it.
    aims['target_slots'][aim] = np.arange(start - len(answer) - 1, start - 1)
    aims['target_ids'][aim] = answer
    weights[aim] = 1.0
    first = aim.stop
  return row | aims | {'target_weights': weights}


def bucket(length: int) -> int:
  """The size of an array that holds `length` tokens, one of few, since each is compiled for minutes or seconds.

  16, 32, 64, 96, 128, then four steps to each doubling: 160, 192, 224, 256, 320 …
  """
  power = 1 << max(4, (length - 1).bit_length())
  step = power if power <= 64 else max(32, power // 8)
  return -(-length // step) * step


def prompt_ids(
  ids: Sequence[int], valid: Array, video_id: int, pictures: Pictures | None = None
) -> tuple[Array, Array]:
  """The tokens without the placeholders that are not `valid`, int32[N], and the video tokens at their places, int32[N].

  Args:
    valid: bool[V * S].
    pictures: where something stands around a view, it goes with a view of which nothing is seen.
  """
  tokens = np.asarray(ids, np.int32)
  is_video = tokens == video_id
  slots = np.zeros(len(tokens), np.int32)
  slots[is_video] = np.arange(is_video.sum())
  kept = ~is_video
  kept[is_video] = valid
  tokens, slots = tokens[kept], slots[kept]
  if pictures is not None and len(tokens):
    bare = np.flatnonzero((tokens[:-1] == pictures.before) & (tokens[1:] == pictures.after))
    kept = np.ones(len(tokens), bool)
    kept[[*bare, *bare + 1]] = False
    tokens, slots = tokens[kept], slots[kept]
  return tokens, slots


def positions(ids: Array, slots: Array, video_id: int, pictures: Pictures | None = None) -> Array:
  """Rotary positions of tokens from `prompt_ids`, from 0: int32[N], or int32[N, 3] for a decoder with M-RoPE.

  A view of which some seconds are not seen keeps the times of the others.
  """
  if pictures is None:
    return np.arange(len(ids), dtype=np.int32)
  grid = pictures.grid
  view = np.where(ids == video_id, slots // grid.tokens, -1)
  cuts = np.flatnonzero(np.diff(view)) + 1
  runs = zip(np.split(view, cuts), np.split(slots, cuts), strict=True)
  parts = [len(run) if run[0] < 0 else mrope.places(grid)[slot % grid.tokens] for run, slot in runs if len(run)]
  return mrope.positions(parts)[0]


def prompt_arrays(ids: Array, slots: Array, length: int, pad_id: int, places: Array | None = None) -> dict[str, Array]:
  """tokens, segment_ids and video_slots of one prompt, from `prompt_ids`, padded on the right to `length`.

  Args:
    places: `positions` of a decoder with M-RoPE, which then are among them; others can count.
  """
  row = {name: np.zeros(length, np.int32) for name in ('tokens', 'segment_ids', 'video_slots')}
  row['tokens'][:] = pad_id
  for name, value in (('tokens', ids), ('segment_ids', 1), ('video_slots', slots)):
    row[name][: len(ids)] = value
  if places is not None:
    row['positions'] = np.zeros((length, 3), np.int32)
    row['positions'][: len(ids)] = places
  return row


def valid_tokens(frame_times: Array, seconds: int, each: int = 1) -> Array:
  """bool[V, S]: whether a video token has at least one real frame, from float32[V, T] times (NaN where padded).

  Args:
    each: tokens of a second: S = seconds * each.
  """
  views, frames = frame_times.shape
  per_token = frames // seconds
  return np.isfinite(frame_times[:, : seconds * per_token]).reshape(views, seconds, per_token).any(-1).repeat(each, 1)


def drop_views(valid: Array, probability: float, random: np.random.Generator) -> Array:
  """View dropout: each view goes with `probability`, but one that has frames always stays. `valid` is bool[V, S]."""
  kept = valid & (random.random(len(valid)) >= probability)[:, None]
  if kept.any():
    return kept
  candidates = np.flatnonzero(valid.any(1))
  if len(candidates):
    view = random.choice(candidates)
    kept[view] = valid[view]
  return kept
