import pytest

from crosstrainer_jax.curation import taxonomy
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from tests.discovery.fake_model import FakeModel, text_of


def test_searches_are_sports_skills_and_connecting_words():
  found = taxonomy.queries({'judo': ['hip throw'], 'tennis': ['serve', 'volley']}, ('tutorial', 'how to'))
  assert [query.text for query in found] == [
    'judo hip throw tutorial', 'how to judo hip throw', 'tennis serve tutorial', 'how to tennis serve',
    'tennis volley tutorial', 'how to tennis volley',
  ]  # fmt: skip
  assert len({query.id for query in found}) == 6
  # what comes before changes no id, so that folders stay right
  more = taxonomy.queries({'golf': ['putt'], 'tennis': ['volley']}, ('how to',))
  assert more[1] == found[5]
  with pytest.raises(ValueError, match='at least one'):
    taxonomy.queries({'judo': ['hip throw']}, ())


def test_lists_are_read_back(tmp_path):
  sports = {'judo': ['hip throw'], 'tennis': ['serve, flat', 'volley']}
  (tmp_path / 's.csv').write_text(taxonomy.write_sports(sports))
  assert taxonomy.read_sports(tmp_path / 's.csv') == sports
  (tmp_path / 's.jsonl').write_text('{"sport": "Judo", "skill": "Hip  Throw"}\n\n')
  assert taxonomy.read_sports(tmp_path / 's.jsonl') == {'judo': ['hip throw']}
  found = taxonomy.queries(sports)
  (tmp_path / 'q.csv').write_text(taxonomy.write_queries(found))
  assert list(taxonomy.read_queries(tmp_path / 'q.csv').values()) == found


@pytest.mark.parametrize(
  ('name', 'content', 'says'),
  [
    ('s.csv', 'sport,skill\njudo,\n', 'line 2: sport and skill'),
    ('s.csv', 'sport,skill\n', 'no sport'),
    ('s.jsonl', '{', 'line 1: not JSON'),
    ('s.txt', '', '.csv or .jsonl'),
  ],
)
def test_a_bad_list_names_its_line(tmp_path, name, content, says):
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=says):
    taxonomy.read_sports(tmp_path / name)


def test_an_id_of_two_searches_is_told(tmp_path):
  (tmp_path / 'q.csv').write_text('id,sport,skill,query\na,judo,throw,x\na,judo,throw,y\n')
  with pytest.raises(ValueError, match='twice'):
    taxonomy.read_queries(tmp_path / 'q.csv')


@pytest.mark.parametrize(
  'text',
  [
    'judo\ntennis',
    '1. Judo\n2) Tennis.',
    '- **Judo** – a fight\n- Tennis: with a racket',
    'Here they are:\n* judo\n* tennis\n* judo',
  ],
)
def test_lists_of_models_are_read_tolerantly(text):
  assert taxonomy.read_list(Answer(text)) == ['judo', 'tennis']
  assert taxonomy.read_list(Answer('Judo'), fewest=1) == ['judo']


def test_no_list_is_told():
  with pytest.raises(Unreadable):
    taxonomy.read_list(Answer('I am afraid that I cannot help you with a list of sports like that one'))


def test_a_model_lists_sports_and_skills(tmp_path):
  model = FakeModel(lambda question: 'throw\nfall' if 'judo' in text_of(question) else 'judo\ntennis\ngolf')
  asker = Asker(model, AnswerStore(tmp_path / 'a.sqlite'))
  assert taxonomy.ask_sports(asker, 2) == ['judo', 'tennis']
  assert taxonomy.ask_skills(asker, 'judo', 5) == ['throw', 'fall']
  assert 'List 5' in text_of(model.questions[1])
  silent = Asker(FakeModel(lambda _: 'no'), AnswerStore(tmp_path / 'b.sqlite'), retries=0)
  with pytest.raises(ValueError, match='gives no list of sports'):
    taxonomy.ask_sports(silent, 2)
