"""Windows of a video one after another, decoded in one pass, however long the video is."""

from collections.abc import Iterator, Sequence

import numpy as np

from crosstrainer_jax.input import video


def stream_windows(
  path: video.Path, windows: Sequence[Sequence[float]], size: int, fit: video.Fit = 'letterbox', threads: int = 0
) -> Iterator[video.Window]:
  """What `video.read_windows` gives, one window at a time: in memory are only those that overlap the present moment.

  Args:
    windows: times in seconds of each, in order of their beginnings; they may overlap.

  Raises:
    VideoError: as `video.read_windows` does, when the first window is asked for.
  """
  places = [(w, t) for w, times in enumerate(windows) for t in range(len(times))]
  wanted = [t for times in windows for t in times]
  ends = [max(times) for times in windows]
  open_: dict[int, video.Window] = {}

  def window(number: int) -> video.Window:
    if number not in open_:
      count = len(windows[number])
      frames, times = np.zeros((count, size, size, 3), np.uint8), np.full(count, np.nan, np.float32)
      open_[number] = video.Window(frames, times, missing=0)
    return open_[number]

  following = 0
  for index, time, image in video.frames_at(path, wanted, size, fit, threads):
    # They come in order of time: what ends before this one is complete.
    while ends[following] < wanted[index]:
      yield window(following)
      del open_[following]
      following += 1
    number, place = places[index]
    seen = window(number)
    if image is None:
      open_[number] = seen._replace(missing=seen.missing + 1)
    else:
      seen.frames[place], seen.times[place] = image, time
  for number in range(following, len(windows)):
    yield window(number)
    del open_[number]
