import json

import pytest

from crosstrainer_jax.discovery import condense
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.journal import text_sha
from crosstrainer_jax.discovery.language_model import CUT, Answer, Unreadable
from crosstrainer_jax.input.record import Clip
from tests.discovery.fake_model import FakeModel, text_of

COMMENTS = ['So um, you know, bend the knees.', '', 'Nice.', 'Nice.', 'gibberish']


def behaviour(question):
  if 'gibberish' in str(question.messages):
    return 'What? I do not know. Sorry.'
  return f'Here is the sentence: "{text_of(question).split("Remark:")[1].split()[-1]}"'


@pytest.fixture(scope='module')
def directory(write_dataset, tmp_path_factory):
  clips = [Clip(f'c{i}', 'd', 'soccer', 'pass', 'p', 't', commentary=text) for i, text in enumerate(COMMENTS)]
  return write_dataset(tmp_path_factory.mktemp('data'), {'train': clips})


@pytest.fixture
def asker(tmp_path):
  return Asker(FakeModel(behaviour), AnswerStore(tmp_path / 'answers.sqlite'), retries=1)


def test_every_comment_gets_a_sentence_or_a_reason(directory, tmp_path, asker):
  output = tmp_path / 'condensed.jsonl'
  assert len(condense.pending(directory, output, asker)) == 3
  report = condense.condense_dataset(directory, output, asker, progress=False)
  found = condense.read_condensed(output)
  assert found['c0'] == condense.Condensed('knees.', text_sha(COMMENTS[0]))
  assert set(found) == {'c0', 'c2', 'c3'}
  # equal comments are asked once, and what cannot be read twice
  assert len(asker.model.questions) == 1 + 1 + 2
  assert (report.clips, report.silent, report.kept, len(report.unread)) == (5, 1, 0, 1)
  assert 'c4: more than one sentence' in report.describe()
  assert '3 condensed now; 3.0 words a comment before, 1.0 after' in report.describe()


def test_a_second_run_keeps_the_lines(directory, tmp_path, asker):
  output = tmp_path / 'condensed.jsonl'
  condense.condense_dataset(directory, output, asker, progress=False)
  before = output.read_bytes()
  assert len(condense.pending(directory, output, asker)) == 1
  again = Asker(FakeModel(behaviour), AnswerStore(tmp_path / 'other.sqlite'), retries=0)
  report = condense.condense_dataset(directory, output, again, progress=False)
  assert (report.kept, len(again.model.questions)) == (3, 1)
  assert output.read_bytes() == before


def test_missing_and_broken_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='--condense'):
    condense.read_condensed(tmp_path / 'none.jsonl')
  (tmp_path / 'bad.jsonl').write_text(json.dumps({'clip_id': 'a'}))
  with pytest.raises(ValueError, match='bad.jsonl: 1 unreadable lines'):
    condense.read_condensed(tmp_path / 'bad.jsonl')


@pytest.mark.parametrize(
  'text',
  [
    'Bend the knees before 2.5 s, e.g. earlier.',
    '"Bend the knees before 2.5 s, e.g. earlier."',
    'Sure, here it is: Bend the knees before 2.5 s, e.g. earlier.',
    "Here's the sentence:\n\n**Bend the knees before 2.5 s, e.g. earlier.**",
    '<think>Two things. Hm.</think>Bend the knees\nbefore 2.5 s, e.g. earlier.',
  ],
)
def test_what_stands_around_a_sentence_goes(text):
  assert condense.read_sentence(Answer(text)) == 'Bend the knees before 2.5 s, e.g. earlier.'


@pytest.mark.parametrize(
  ('answer', 'reason'),
  [
    (Answer(' \n'), 'empty'),
    (Answer('Bend the', CUT), 'cut'),
    (Answer('word ' * 61), '61 words'),
    (Answer('Bend the knees. Also look up.'), 'more than one sentence'),
  ],
)
def test_what_is_no_sentence_is_told(answer, reason):
  with pytest.raises(Unreadable, match=reason):
    condense.read_sentence(answer)
