"""Expert commentary of one take, from both of its forms.

The annotation file has what was said; the folders have that too, and the drawings, and how each expert rated the take.
Where both are there they are one comment: (expert, recording) names it.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss

FAILED = 'its transcription failed'
SILENT = 'no words'
NO_TIME = 'no time in the video'
AGAIN = 'the same recording came before'
BROKEN = 'a folder of commentary that cannot be read'
OLDER = 'a newer folder of the same expert and take'
FAR = 'no comment near it'
# What stands in the demonstration file is taken from commentary, whose times it has, up to rounding.
_NEAR = 5.0


def comments_of(
  take: str,
  entries: Iterable[dict[str, Any]],
  folder: pathlib.Path,
  demonstrations: Iterable[dict[str, Any]],
  lose: Lose,
) -> list[Comment]:
  """The comments on a take, by time.

  Args:
    entries: of the annotation file, one for each expert.
    folder: `annotations/expert_commentary/<take>`, which need not exist.
    demonstrations: good executions and tips; they go to the nearest comment, of the same expert where there is one.
  """
  said: dict[tuple[str, str], dict[str, Any]] = {}
  for number, entry in enumerate(entries):
    # …/<the expert's name of six letters>
    expert = str(entry.get('commentary') or '').rpartition('/')[2] or f'expert{number}'
    remarks = entry.get('commentary_data')
    for remark in remarks if isinstance(remarks, list) else []:
      if not isinstance(remark, dict):
        continue
      key = expert, _recording(remark.get('recording'))
      if key in said:
        lose(Loss('comment', _label(take, key), AGAIN))
      else:
        said[key] = dict(remark)
  for expert, data, words in _folders(take, folder, lose):
    rating = _rating(data.get('proficiency'))
    drawn = data.get('annotations')
    for remark in drawn if isinstance(drawn, list) else []:
      if not isinstance(remark, dict):
        continue
      key = expert, _recording(remark.get('recording_path'))
      known = said.setdefault(key, {})
      known.setdefault('video_time', remark.get('video_time'))
      known.setdefault('duration_approx', remark.get('duration_approx'))
      if 'text' not in known and not _failed(known):
        spoken = words.get(f'{key[1]}.webm') or words.get(str(remark.get('recording_path')))
        known.update(spoken if isinstance(spoken, dict) else {})
      known['drawings'] = _drawings(remark)
    for (other, _), known in said.items():
      if other == expert:
        known['rating'] = rating
  return _attach(take, list(_comments(take, said, lose)), demonstrations, lose)


def _comments(take: str, said: dict[tuple[str, str], dict[str, Any]], lose: Lose) -> Iterator[Comment]:
  # Files have them in the order of transcription.
  for key, remark in sorted(said.items(), key=lambda item: (seconds(item[1].get('video_time')) or 0.0, item[0])):
    label = _label(take, key)
    if _failed(remark):
      lose(Loss('comment', label, FAILED, str(remark.get('_error_desc') or remark.get('error_desc') or '')))
      continue
    text = ' '.join(str(remark.get('text') or '').split())
    if not text:
      lose(Loss('comment', label, SILENT))
      continue
    time = seconds(remark.get('video_time'))
    if time is None:
      lose(Loss('comment', label, NO_TIME, repr(remark.get('video_time'))))
      continue
    extra: dict[str, Any] = {}
    if (duration := seconds(remark.get('duration_approx'))) is not None:
      extra['spoken_seconds'] = round(duration, 3)
    extra |= {name: remark[name] for name in ('rating', 'drawings') if remark.get(name)}
    yield Comment('/'.join(key), text, time, expert=key[0], extra=extra)


def _failed(remark: dict[str, Any]) -> bool:
  """Under any of the keys that files of different origin have."""
  error = remark.get('error', remark.get('_error'))
  if error is None:
    return bool(remark.get('_error_desc') or remark.get('error_desc'))
  return str(error).lower() in ('true', '1')


def _folders(take: str, folder: pathlib.Path, lose: Lose) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
  """(expert, data.json, transcriptions.json) of each expert; of several folders of one the newest counts."""
  newest: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {}
  for path in sorted(folder.iterdir()) if folder.is_dir() else []:
    if not path.is_dir():
      continue
    label = f'{take}/{path.name}'
    try:
      data = json.loads((path / 'data.json').read_text(encoding='utf-8'))
      words_file = path / 'transcriptions.json'
      words = json.loads(words_file.read_text(encoding='utf-8')) if words_file.is_file() else {}
    except (OSError, ValueError) as error:
      lose(Loss('commentary folder', label, BROKEN, str(error)))
      continue
    if not isinstance(data, dict) or not isinstance(words, dict):
      lose(Loss('commentary folder', label, BROKEN, 'no object'))
      continue
    expert = str(data.get('user_id') or path.name)
    made = str(data.get('ds') or '')
    before = newest.get(expert)
    if before is None or made > before[0]:
      newest[expert] = made, label, data, words
    if before is not None:
      older = label if newest[expert] is before else before[1]
      lose(Loss('commentary folder', older, OLDER))
  for expert, (_, _, data, words) in sorted(newest.items()):
    yield expert, data, words


def _rating(proficiency: Any) -> dict[str, Any] | None:
  """The expert's rating of the take, from 1 to 10, and why."""
  if not isinstance(proficiency, dict) or seconds(proficiency.get('rating')) is None:
    return None
  return {'of_10': proficiency['rating'], 'why': ' '.join(str(proficiency.get('why') or '').split())}


def _drawings(remark: dict[str, Any]) -> list[dict[str, Any]]:
  """What the expert drew on the picture while speaking, as events in the order of the file.

  `at` and the third number of a point are seconds since the recording began; x and y are shares of the picture's width
  and height. A stroke is a line of points; 'clear' wipes all strokes before it.
  """
  begun = seconds(remark.get('start_global_time'))
  events = remark.get('events')
  drawings: list[dict[str, Any]] = []
  if begun is None or not isinstance(events, list):
    return drawings

  def since(milliseconds: Any) -> float | None:
    found = seconds(milliseconds)
    return None if found is None else round((found - begun) / 1000, 3)

  for event in events:
    if not isinstance(event, dict) or event.get('action') not in ('draw', 'clear'):
      continue
    drawing: dict[str, Any] = {'action': event['action'], 'at': since(event.get('global_time'))}
    points: list[list[Any]] = []
    strokes: list[list[list[Any]]] = []
    for part in event.get('paths') or []:
      ends = [
        [end.get('x'), end.get('y'), since(end.get('t'))] for end in (part.get('from') or {}, part.get('to') or {})
      ]
      # A stroke is kept in pieces, each of which begins where the last one ended.
      if points and points[-1][:2] == ends[0][:2]:
        points.append(ends[1])
      else:
        points = ends
        strokes.append(points)
    if strokes:
      drawing['strokes'] = strokes
    drawings.append(drawing)
  return drawings


def _attach(take: str, comments: list[Comment], demonstrations: Iterable[dict[str, Any]], lose: Lose) -> list[Comment]:
  """Good executions and tips, into `extra` of the nearest comment: they tell what was good or bad in its words."""
  for entry in demonstrations:
    for key, name in (('good_executions', 'good execution'), ('tips_for_improvement', 'tip')):
      for item in entry.get(key) or []:
        if not isinstance(item, dict):
          continue
        texts = [' '.join(str(text).split()) for text in item.get('list') or []]
        time, expert = seconds(item.get('video_time')), str(item.get('expert_uid') or '')
        own = [comment for comment in comments if comment.expert == expert] or comments
        near = [c for c in own if time is not None and c.time is not None and abs(c.time - time) <= _NEAR]
        if not near:
          lose(Loss(name, f'{take}/{expert}@{item.get("video_time")}', FAR, '; '.join(texts)))
          continue
        chosen = min(near, key=lambda c: abs((c.time or 0.0) - (time or 0.0)))
        extra = chosen.extra
        assert isinstance(extra, dict)
        extra.setdefault(key, []).extend(texts)
  return comments


def _label(take: str, key: tuple[str, str]) -> str:
  return '/'.join((take, *key))


def _recording(name: Any) -> str:
  return pathlib.PurePosixPath(str(name if name is not None else '?')).stem


def seconds(value: Any) -> float | None:
  """A finite number of a JSON file; None for anything else."""
  if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
    return None
  return float(value)
