"""The question about a pair: its tokens, and what training makes of them."""

import pickle

import numpy as np
import pytest

from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.tokenizer import train_tokenizer
from crosstrainer_jax.retrieval.relevance import (
  ANSWERS,
  ATTRIBUTES,
  PHRASES,
  Pairs,
  Question,
  RelevanceUpdates,
  Shown,
)

NARRATIONS = ['', '', 'bend your knees', 'look up and bend your knees a little', '']
SPORTS = ['soccer', 'judo', 'soccer', 'judo', 'judo']
PAIRS = Pairs(
  np.array([0, 0, 1, 1, 4], np.int32),
  np.array([2, 3, 3, 2, 3], np.int32),
  np.array([1, 0, 1, 0, 1], bool),
  [['knees'], [], ['knees', 'gaze'], [], ['gaze']],
)


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  texts = [*ANSWERS, *NARRATIONS, *SPORTS]
  return PromptTokenizer(train_tokenizer(texts, 300, tmp_path_factory.mktemp('words') / 'tokenizer', PHRASES), 4, 3)


def video(index):
  return {'features': np.full((2, 2, 3), index, np.float16)}


def updates(words, answer='yes/no', **changes):
  valid = np.ones((5, 2, 2), bool)
  valid[2, 1] = False
  settings = {'batch_size': 4, 'seed': 0, 'count': 6, **changes}
  return RelevanceUpdates(
    PAIRS, Question(words, 96, answer), words, Shown(video, valid), SPORTS, NARRATIONS, **settings
  )


def test_both_clips_stand_in_the_question(words):
  asked = Question(words, 96)
  ids = [*asked.about('judo'), *asked.asked('bend your knees')]
  assert ids.count(words.video_id) == 8
  said = words.words.decode([number for number in ids if number != words.video_id])
  assert 'A learner of judo: A how-to clip:Its words: bend your knees Does it show how to correct the learner?' in said


def test_a_long_narration_loses_its_end_and_nothing_else(words):
  short, whole = Question(words, 2), Question(words, 96)
  assert short.cut(NARRATIONS) == 2
  assert whole.cut(NARRATIONS) == 0
  assert short.asked(NARRATIONS[3])[-1] == whole.asked(NARRATIONS[3])[-1]
  assert len(short.asked(NARRATIONS[3])) < len(whole.asked(NARRATIONS[3]))


def test_a_narration_forges_no_clip(words):
  assert Question(words, 96).asked('see <video> </s>').count(words.video_id) == 4


def test_answers_that_begin_alike_are_refused(words, monkeypatch):
  monkeypatch.setattr('crosstrainer_jax.retrieval.relevance.NO', 'yesterday')
  with pytest.raises(ValueError, match='alike'):
    Question(words, 96)


def test_a_row_is_a_pair_and_its_answer(words):
  made, asked = updates(words), Question(words, 96)
  seen = {}
  for number in range(made.count):
    batch = made(number)
    assert batch['features'].shape == (4, 1, 4, 2, 3)
    assert batch['target_weights'].sum() == 4
    for row in range(4):
      learner, candidate = batch['features'][row, 0, [0, 2], 0, 0].astype(int)
      seen[learner, candidate] = seen.get((learner, candidate), 0) + 1
      place = np.flatnonzero((PAIRS.learners == learner) & (PAIRS.candidates == candidate))[0]
      assert batch['target_ids'][row, 0] == (asked.yes if PAIRS.relevant[place] else asked.no)
      # The answer is predicted where the question ends.
      end = batch['target_slots'][row, 0]
      assert batch['tokens'][row, end + 1] == batch['target_ids'][row, 0]
      shown = batch['video_slots'][row][batch['tokens'][row] == words.video_id]
      assert shown.tolist() == ([*range(6)] if candidate == 2 else [*range(8)])
  # Two dozen rows are five epochs of five pairs, but for one pair.
  assert sorted(seen.values()) == [4, 5, 5, 5, 5]


def test_attributes_are_an_answer_too(words):
  asked = Question(words, 96, ATTRIBUTES)
  assert asked.yes is None
  assert asked.answer(False, []) == [asked.no, *words.layout.close]
  assert words.words.decode(asked.answer(True, ['knees', 'gaze'])) == ' knees, gaze</s>'
  batch = updates(words, ATTRIBUTES)(0)
  for row in range(4):
    learner, candidate = batch['features'][row, 0, [0, 2], 0, 0].astype(int)
    place = np.flatnonzero((PAIRS.learners == learner) & (PAIRS.candidates == candidate))[0]
    count = int(batch['target_weights'][row].sum())
    assert batch['target_ids'][row, :count].tolist() == asked.answer(PAIRS.relevant[place], PAIRS.shared[place])


def test_a_hidden_learner_is_no_token(words):
  batch = updates(words, blind=True)(0)
  for row in range(4):
    shown = batch['video_slots'][row][batch['tokens'][row] == words.video_id]
    assert (shown >= 4).all()
    assert len(shown)


def test_hosts_make_the_rows_of_one_whole(words):
  whole = updates(words, multiple=8)(1)
  assert whole['target_weights'][:, 0].tolist() == [1] * 4 + [0] * 4
  part = updates(words, multiple=8, own_rows=lambda rows: [2, 5])(1)
  for name, value in part.items():
    np.testing.assert_array_equal(value, whole[name][[2, 5]])


def test_readers_get_a_copy(words):
  copy = pickle.loads(pickle.dumps(updates(words)))
  np.testing.assert_array_equal(copy(2)['tokens'], updates(words)(2)['tokens'])
