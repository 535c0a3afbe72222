import json

import numpy as np
import pytest

from crosstrainer_jax.retrieval import ratings


def write(path, *entries):
  path.write_text('\n'.join(e if isinstance(e, str) else json.dumps(e) for e in entries) + '\n')
  return path


def rating(clip='a', candidate='x', value=3, rater='ann'):
  return {'clip_id': clip, 'candidate': candidate, 'rating': value, 'rater': rater}


def test_raters_are_averaged_and_unrated_pairs_are_no_judgement(tmp_path):
  file = write(
    tmp_path / 'r.jsonl', rating(), rating(value=2, rater='bob'), '', rating('b', 'y', 0), rating('b', 'gone')
  )
  found = ratings.read(file)
  assert found == {'a': {'x': 2.5}, 'b': {'y': 0.0, 'gone': 3.0}}
  gains, lost = ratings.gains(found, ['a', 'b', 'c'], ['x', 'y'])
  np.testing.assert_array_equal(gains, [[2.5, np.nan], [np.nan, 0.0], [np.nan, np.nan]])
  assert lost == 1


@pytest.mark.parametrize(
  ('entries', 'says'),
  [
    (['{'], 'line 1: expected'),
    ([rating(value=4)], 'from 0 to 3'),
    ([rating(value=True)], 'from 0 to 3'),
    ([rating(), rating()], 'line 2: ann rates this pair a second time'),
    ([''], 'no rating in it'),
  ],
)
def test_a_bad_line_is_named(tmp_path, entries, says):
  with pytest.raises(ValueError, match=says):
    ratings.read(write(tmp_path / 'r.jsonl', *entries))
  with pytest.raises(FileNotFoundError):
    ratings.read(tmp_path / 'none.jsonl')
