"""Looking at less than was prepared: a shorter window [t - μ1, t + μ2] around the comment, or fewer views.

The paper names neither μ1 and μ2 nor what each view gives. Records and cached features stay as they are: frames outside
are marked as padding, so that their tokens are never seen, neither in training nor in evaluation.
"""

import math
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.input.source import ClipInfo


def narrow(clips: Sequence[ClipInfo], window: Sequence[float], views: int) -> None:
  """Marks what lies outside, in the `frame_times` of the clips, in their place.

  Args:
    window: μ1, μ2 in seconds; (0, 0) for all that was prepared. A clip without the time of a comment keeps its own
      middle.
    views: the first so many; 0 for all.

  Raises:
    ValueError: a clip would be left with nothing to see; it is named.
  """
  whole = not any(window)
  if whole and not views:
    return
  for clip in clips:
    times = np.array(clip.frame_times)
    if views:
      times[views:] = np.nan
    if not whole and np.isfinite(times).any():
      middle = clip.commentary_time
      if math.isnan(middle):
        middle = float(np.nanmin(times) + np.nanmax(times)) / 2
      times[(times < middle - window[0]) | (times > middle + window[1])] = np.nan
    if not np.isfinite(times).any():
      raise ValueError(
        f'clip {clip.clip_id!r}: nothing is left to see of it with data.window={tuple(window)} and data.views={views}; '
        'its comment lies outside of its frames, or its first views have none'
      )
    clip.frame_times = times
