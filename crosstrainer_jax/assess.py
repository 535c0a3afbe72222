"""python -m crosstrainer_jax.assess VIDEO: what to improve in your own video, segment by segment.

By a run that was trained here, or, with `--backend openai`, by any vision-language model behind a server; with
`--backend local` by a Qwen2.5-VL on this machine. With `--library`, also which clips of a library to watch.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosstrainer_jax import backends

if TYPE_CHECKING:
  from crosstrainer_jax.inference import coach, zero_shot
  from crosstrainer_jax.retrieval.adviser import Adviser
  from crosstrainer_jax.training.telemetry import Progress


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
  if options.backend != 'trained':
    _untrained(options)
    return
  # JAX and the model cost seconds of import, which --help should not.
  import crosstrainer_jax
  from crosstrainer_jax.eval import newest_run
  from crosstrainer_jax.input.buckets import as_path, check
  from crosstrainer_jax.training.telemetry import Progress

  bar: Progress | None = None

  def progress(done: int, total: int) -> None:
    nonlocal bar
    bar = bar or Progress('assessing', total, unit='segment')
    bar.update(done)

  try:
    workdir = as_path(options.checkpoint) if options.checkpoint else newest_run('runs')
    check(workdir, '--checkpoint', write=False)
    if not options.checkpoint:
      print(f'using {workdir}, the newest run', file=sys.stderr)
    # What is said on the way is no part of the answer.
    with contextlib.redirect_stdout(sys.stderr):
      adviser = _open_library(options)
      coach = crosstrainer_jax.load(workdir, options.encoder_weights, options.decoder_weights)
      result = coach.assess(options.video, options.sport, options.stride, progress)
      _add_clips(adviser, result, options.clips)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('\ninterrupted; nothing was assessed', file=sys.stderr)
    sys.exit(130)
  finally:
    if bar is not None:
      bar.close()
  print(result.to_json() if options.json else result.describe())


def _untrained(options: argparse.Namespace) -> None:
  """The zero-shot assessment, or its estimate."""
  try:
    # What is said on the way is no part of the answer.
    with contextlib.redirect_stdout(sys.stderr):
      said = zero_shot_assessment(options)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('\ninterrupted; what is answered is kept: the same command goes on', file=sys.stderr)
    sys.exit(130)
  print(said if isinstance(said, str) else said.to_json() if options.json else said.describe())


def zero_shot_assessment(options: argparse.Namespace) -> zero_shot.Assessment | str:
  """What a model that was not trained here says of the video; with `--estimate` what that would take."""
  from crosstrainer_jax.discovery import asking
  from crosstrainer_jax.inference import zero_shot
  from crosstrainer_jax.training.telemetry import Progress

  views = options.views or len(options.video)
  eyes = zero_shot.Eyes(options.frames, options.fps, options.pixels, views, options.window)
  files, spans = zero_shot.open_videos(options.video, eyes, options.stride)
  asker = backends.open_seeing_asker(options.backend, backends.ModelSettings.of(vars(options)))
  sport = options.sport or 'a sport'
  print(f'{backends.describe(asker)}; it is shown {eyes}', file=sys.stderr)
  if options.estimate:
    return asking.estimate(
      asker,
      lambda dry: zero_shot.ZeroShot(dry, eyes).see_videos(files, spans, sport, anyway=True),
      pixels=eyes.pixels,
      price_in=options.price_in,
      price_out=options.price_out,
    )
  adviser = _open_library(options)
  tally = zero_shot.ZeroShot(asker, eyes).tally(files, spans)
  print(tally, file=sys.stderr)
  segments: dict[int, zero_shot.Segment] = {}
  bar = Progress('assessing', len(spans), unit='segment')
  try:
    for number, seen in zero_shot.ZeroShot(asker, eyes).see_videos(files, spans, sport):
      segments[number] = zero_shot.Segment(*spans[number], seen.attributes, seen.feedback, seen.reason)
      bar.update(1)
  finally:
    bar.close()
  ordered = [segments[number] for number in sorted(segments)]
  found = zero_shot.Assessment([str(file) for file in files], sport, asker.model.name, str(eyes), ordered)
  if tally.dropped:
    found.warnings.append(f'{tally}: {tally.remedy}')
  _add_clips(adviser, found, options.clips)
  return found


def _open_library(options: argparse.Namespace) -> Adviser | None:
  """What finds the clips to watch, opened before anything is computed. Raises FileNotFoundError, ValueError."""
  if not options.library:
    return None
  from crosstrainer_jax.input.buckets import check
  from crosstrainer_jax.retrieval.adviser import Adviser

  check(options.library, '--library', write=False)
  return Adviser(options.library, options.library_encoder_weights, options.library_decoder_weights)


def _add_clips(adviser: Adviser | None, found: coach.Assessment | zero_shot.Assessment, count: int) -> None:
  """Puts the clips to watch beside the segments that show something to improve; what fails is a warning."""
  if adviser is None:
    return
  from crosstrainer_jax.training.telemetry import Progress

  chosen = [segment for segment in found.segments if segment.missing is not None]
  paths, spans = [Path(path) for path in found.videos], [(segment.start, segment.end) for segment in chosen]
  bar = Progress('finding clips', len(chosen), unit='segment')
  try:
    missing = [segment.missing or [] for segment in chosen]
    clips = adviser.advise(paths, spans, found.sport, missing, count, bar.update)
    for segment, watch in zip(chosen, clips, strict=True):
      segment.watch = watch
    found.warnings += adviser.warnings(len(paths), spans, found.sport)
  except (ValueError, OSError) as error:
    found.warnings.append(f'no clips to watch: {error}')
  except KeyboardInterrupt:
    found.warnings.append('interrupted before the clips to watch were found')
  finally:
    bar.close()


def _at_least_one(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text} is no number of clips from 1 on')
  return int(text)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='python -m crosstrainer_jax.assess', description=__doc__)
  parser.add_argument('video', nargs='+', help='a video file; or one file per view of the same take')
  parser.add_argument('--sport', default='', help='what the person does, for example basketball; default: "a sport"')
  parser.add_argument('--stride', type=float, default=0.0, help='seconds between windows; default: end to end')
  parser.add_argument('--json', action='store_true', help='print JSON')
  parser.add_argument(
    '--backend', choices=('trained', *backends.MODELS), default='trained', help='who looks (default: trained)'
  )
  library = parser.add_argument_group('clips to watch')
  library.add_argument('--library', default='', help='workdir of a finished run of python -m crosstrainer_jax.retrieve')
  library.add_argument('--clips', type=_at_least_one, default=3, help='for each segment (default: %(default)s)')
  library.add_argument('--library_encoder_weights', default='', help='where its weights of f_v lie now, if moved')
  library.add_argument('--library_decoder_weights', default='', help='and those of its pretrained L')
  trained = parser.add_argument_group('a trained run (--backend trained)')
  trained.add_argument('--checkpoint', help='workdir of a trained run; default: the newest under runs/')
  trained.add_argument('--encoder_weights', default='', help='where the weights of f_v lie now, if they were moved')
  trained.add_argument('--decoder_weights', default='', help='where the pretrained L lies now, if it was moved')
  shown = parser.add_argument_group('what is shown (--backend openai or local)')
  shown.add_argument('--frames', type=int, default=8, help='frames of a view at most (default: %(default)s)')
  shown.add_argument('--fps', type=float, default=1.0, help='frames of a second (default: %(default)s)')
  shown.add_argument('--pixels', type=int, default=448, help='height and width at most (default: %(default)s)')
  shown.add_argument('--views', type=int, default=0, help='views at most; default: all that are given')
  shown.add_argument('--window', type=float, default=10.0, help='seconds of a segment (default: %(default)s)')
  backends.add_options(parser)
  return parser


if __name__ == '__main__':
  main()
