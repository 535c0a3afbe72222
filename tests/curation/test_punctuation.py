import pytest

from crosstrainer_jax.curation import punctuation
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.input.cues import Cue
from tests.discovery.fake_model import FakeModel, text_of


def spoken(*lines, pause=1.0):
  """Lines of recognised speech with times of words, and a pause behind each that ends with a stroke."""
  cues, at = [], 0.0
  for line in lines:
    words = line.removesuffix('|').split()
    length = 0.3 * len(words)
    end = at + length + (pause if line.endswith('|') else 0.0)
    cues.append(Cue(at, end, ' '.join(words), 0.9, at + length - 0.3))
    at = end
  return cues


def test_a_pause_ends_a_sentence_and_the_end_of_a_line_does_not():
  cues = spoken('bend your knees before the', 'touch and stay low|', 'keep the head up')
  found = punctuation.restore(cues)
  assert [cue.text for cue in found] == ['Bend your knees before the touch and stay low.', 'Keep the head up.']
  assert found[0].start == 0.0
  assert found[0].end == pytest.approx(2.7, abs=0.2)
  assert found[1].start == pytest.approx(cues[2].start)
  assert found[0].confidence == pytest.approx(0.9)


def test_without_times_of_words_only_a_long_silence_does():
  lines = [
    cue._replace(last_word=None) for cue in spoken('one two three four five six|', 'seven eight nine', pause=1.5)
  ]
  assert len(punctuation.restore(lines)) == 2
  short = [
    cue._replace(last_word=None) for cue in spoken('one two three four five six|', 'seven eight nine', pause=0.3)
  ]
  assert len(punctuation.restore(short)) == 1


def test_a_new_thought_ends_a_long_one():
  found = punctuation.restore(spoken('bend your knees and keep your head up', 'now drive through the legs'))
  assert [cue.text for cue in found] == ['Bend your knees and keep your head up.', 'Now drive through the legs.']
  going_on = punctuation.restore(spoken('bend your knees and keep your head up', 'so that you stay in balance'))
  assert len(going_on) == 1


def test_a_speech_without_end_is_cut():
  found = punctuation.restore(spoken(*['one two three four five'] * 20))
  assert all(len(cue.text.split()) <= punctuation.MOST for cue in found)
  assert ' '.join(cue.text.rstrip('.') for cue in found).lower().count('one') == 20


def test_full_stops_are_seen():
  assert punctuation.has_full_stops([Cue(0, 1, 'Bend your knees.'), Cue(1, 2, 'Good!')])
  assert not punctuation.has_full_stops([Cue(0, 9, ' '.join(['word'] * 80) + '.')])
  assert not punctuation.has_full_stops([])


def test_a_model_puts_in_punctuation_and_changes_no_word(tmp_path):
  model = FakeModel(lambda question: 'Bend your knees – and stay low. Keep the head up!')
  found, unread = punctuation.restore_by_model(
    spoken('bend your knees and stay', 'low keep the head up'), Asker(model, AnswerStore(tmp_path / 'a'))
  )
  assert [cue.text for cue in found] == ['Bend your knees – and stay low.', 'Keep the head up!']
  assert unread == 0
  assert 'bend your knees and stay low keep the head up' in text_of(model.questions[0])


def test_a_model_that_changes_words_is_not_believed(tmp_path):
  model = FakeModel(lambda question: 'Bend the knees.')
  cues = spoken('bend your knees|', 'keep the head up')
  found, unread = punctuation.restore_by_model(cues, Asker(model, AnswerStore(tmp_path / 'a'), retries=1))
  assert unread == 0  # there is an answer, and it is kept
  assert found == punctuation.restore(cues)
  assert len(model.questions) == 2


def test_a_model_that_does_not_answer_is_asked_again_another_time(tmp_path):
  model = FakeModel(lambda question: Unreadable('no answer after 6 calls'))
  _, unread = punctuation.restore_by_model(spoken('bend your knees'), Asker(model, AnswerStore(tmp_path / 'a')))
  assert unread == 3


def test_a_sign_between_words_is_no_word(tmp_path):
  model = FakeModel(lambda question: 'Do 5 + 5 reps & rest.')
  cues = spoken('do 5 + 5', 'reps & rest')
  found, _ = punctuation.restore_by_model(cues, Asker(model, AnswerStore(tmp_path / 'a')))
  assert [cue.text for cue in found] == ['Do 5 + 5 reps & rest.']
  assert len(model.questions) == 1
