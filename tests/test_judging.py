"""Sheets for judges and their forms: what cannot be asked for. The way through is in test_eval."""

import pytest

from crosstrainer_jax import judging
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.pictures import ClipPictures


def test_wrong_requests_of_a_sheet_are_clear_errors(small_run, small_data):
  pictures = ClipPictures(ClipSource(small_data))
  with pytest.raises(ValueError, match="has no row 'nobody'; it has "):
    judging.write_sheet(small_run, pictures, 1, 0, ['nobody'])
  with pytest.raises(ValueError, match="'always none' writes no feedback"):
    judging.write_sheet(small_run, pictures, 1, 0, ['always none'])
  with pytest.raises(ValueError, match='needs the key'):
    judging.judge(['a.csv'], None)
