"""TFDS without what it says: bars that would write over ours, and words about downloads, of which there are none."""

import contextlib
from collections.abc import Iterator

import tensorflow_datasets as tfds
from absl import logging


class Quiet:
  """A base of builders, before TFDS' own."""

  def _log_download_bytes(self) -> None:
    """Not said: sizes that are unknown before anything is made."""

  def _log_download_done(self) -> None:
    """Not said: the builder's own line tells how many clips there are."""


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """No bars of TFDS, and errors alone in its log."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  try:
    yield
  finally:
    tfds.enable_progress_bar()
    logging.set_verbosity(verbosity)
