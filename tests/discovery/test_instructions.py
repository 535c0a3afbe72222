import pytest

from crosstrainer_jax.discovery import instructions


@pytest.mark.parametrize('name', instructions.names())
def test_every_prompt_makes_the_demands_of_the_paper(name):
  """Sport and comment are shown, concepts explained by examples, others invited, two lines demanded."""
  instruction = instructions.load(name)
  question = instruction.question('Bend the {sport} knees.', 'rock climbing')
  system, user = (message['content'] for message in question.messages)
  assert [message['role'] for message in question.messages] == ['system', 'user']
  for words in ('rock climbing', 'Bend the {sport} knees.', 'control', 'body positioning', 'Correct -', 'Incorrect -'):
    assert words in user
  assert any(word in user for word in ('other', 'whichever'))
  assert 'two lines' in user
  assert '{commentary}' not in user
  assert system
  assert 'Correct -' in question.reminder
  assert question.purpose == name


def test_there_are_variants_for_the_study_of_wordings():
  assert instructions.names() == ('paper', 'form', 'steps')
  assert len({instructions.load(name).sha for name in instructions.names()}) == 3


def test_another_word_is_another_prompt():
  prompt = instructions.load('paper')
  assert prompt.sha == instructions.load('paper').sha
  changed = instructions.Instruction(prompt.name, prompt.system, prompt.user + '!', prompt.reminder)
  assert changed.sha != prompt.sha


def test_a_file_of_ones_own(tmp_path):
  path = tmp_path / 'mine.toml'
  path.write_text('system = "S"\nuser = "{sport}: {commentary}"\nreminder = "R"')
  question = instructions.load(str(path)).question('Fine.', '')
  assert question.messages[1]['content'] == 'sports: Fine.'
  assert question.purpose == 'mine'


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('system = ', 'not TOML'),
    ('system = "S"\nuser = "{commentary}"', 'system, user, reminder and nothing else'),
    ('system = "S"\nuser = "{commentary}"\nreminder = "R"\nmore = 1', 'and nothing else'),
    ('system = "S"\nuser = "{comment}"\nreminder = "R"', 'does not hold'),
  ],
)
def test_a_file_that_cannot_be_a_prompt(tmp_path, content, message):
  path = tmp_path / 'mine.toml'
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    instructions.load(str(path))


def test_unknown_prompts():
  with pytest.raises(ValueError, match="no prompt 'papers'; known: paper, form, steps"):
    instructions.load('papers')
  with pytest.raises(FileNotFoundError, match='no such prompt file'):
    instructions.load('none.toml')
