"""A clock for tests of what happens in time."""


class Clock:
  """Stands for the module `time`: a test sets what it shows."""

  now = 0.0

  def monotonic(self) -> float:
    return self.now
