import pytest

from crosstrainer_jax.curation import gates, rules, scan, sentences
from crosstrainer_jax.curation.look import Look, Windows
from crosstrainer_jax.datasets.youtube.transcript import Limits
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from tests.discovery.fake_model import FakeModel, text_of


def asker(tmp_path, behaviour, **settings):
  return Asker(FakeModel(behaviour, **settings), AnswerStore(tmp_path / 'answers.sqlite'), retries=1)


def test_rules_judge_sentences(video):
  gates.Actionable().apply(video)
  first, second = video.segments
  assert first.actionable.answer
  assert first.kept
  assert (second.dropped, second.reason) == ('actionable', gates.NOT_ACTIONABLE)
  assert 'subscrib' in second.detail


def test_a_model_judges_sentences(video, tmp_path):
  def behaviour(question):
    return (
      'Actionable: no\nReason: an advert' if 'Subscribe' in text_of(question) else 'Actionable: yes\nReason: a demand'
    )

  own = asker(tmp_path, behaviour, group=2)
  gates.Actionable(own).apply(video)
  assert [segment.actionable.answer for segment in video.segments] == [True, False]
  assert video.segments[1].detail == 'an advert'
  assert video.segments[0].actionable.by.startswith('fake:')
  assert own.model.groups == [2]
  assert 'dribbling in soccer' in text_of(own.model.questions[0])


def test_what_a_model_does_not_answer_is_counted_and_dropped(video, tmp_path):
  gates.Actionable(asker(tmp_path, lambda _: 'well')).apply(video)
  assert video.unanswered == 0  # there is an answer, which is kept and cannot be read
  assert {segment.reason for segment in video.segments} == {gates.UNANSWERED}
  assert video.segments[0].actionable.answer is None


def test_what_nobody_answers_is_asked_again_another_time(video, tmp_path):
  gates.Actionable(asker(tmp_path, lambda _: Unreadable('no answer after 6 calls'))).apply(video)
  assert video.unanswered == 2


@pytest.fixture
def seen(howto):
  video = next(v for v in scan.Folder(str(howto), table=str(howto / 'table.csv')).videos() if v.id == 'v02')
  return Look(str(howto), Windows(longest=4.0)).apply(sentences.Sentences(str(howto), Limits()).apply(video))


def test_a_model_looks_at_frames(seen, howto, tmp_path):
  answers = iter(['Demonstrated: no\nExecution: none', 'Demonstrated: yes\nExecution: correct\nReason: a good one',
                  'Demonstrated: yes\nExecution: incorrect', 'nothing', 'nothing'])  # fmt: skip
  own = asker(tmp_path, lambda _: next(answers))
  gates.Demonstrated(str(howto), own, pixels=48).apply(seen)
  assert [(s.dropped, s.execution) for s in seen.segments] == [
    ('demonstrated', 'none'), ('', 'correct'), ('', 'incorrect'), ('demonstrated', ''),
  ]  # fmt: skip
  assert seen.unanswered == 0
  assert own.model.questions[0].images == 8
  again = asker(tmp_path, lambda _: pytest.fail('asked again'))
  seen.segments[1].drop('', '')
  assert (
    gates.Demonstrated(str(howto), again, pixels=48).identity()
    == gates.Demonstrated(str(howto), own, pixels=48).identity()
  )


def test_rules_look_at_what_moves(seen, howto):
  gates.Demonstrated(str(howto)).apply(seen)
  talk, right, mistake, _ = seen.segments
  assert talk.reason == gates.NOT_SHOWN
  assert (right.kept, right.execution, mistake.execution) == (True, 'correct', 'incorrect')
  assert right.demonstrated.by == rules.BY


def test_answers_are_read():
  assert gates.read_actionable(Answer('Actionable: yes\nReason: because')) == (True, 'because')
  assert gates.read_demonstrated(Answer('demonstrated - no\nExecution: none')) == (False, 'none', '')
  assert gates.read_demonstrated(Answer('Demonstrated: yes\nExecution: incorrect')) == (True, 'incorrect', '')
  with pytest.raises(Unreadable, match='neither'):
    gates.read_demonstrated(Answer('Demonstrated: yes\nExecution: none'))
