import collections

import pytest

from crosstrainer_jax.discovery import rules
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer, concept_names, name_concept

# Written by hand, in the manner of coaches; comment, correct, incorrect.
COMMENTS = [
  ('Great balance, but your hands are late.', ['balance'], ['timing']),
  ('Your knees are too straight.', [], ['knee bend']),
  ('Bend your knees and keep your head up.', [], ['knee bend', 'head position']),
  ('You stay low and keep your head up, nice.', ['knee bend', 'head position'], []),
  ('Lovely follow-through, though the eyes drop right before contact.', ['follow-through'], ['head position']),
  ('Not bad at all, but the timing is off.', [], ['timing']),
  ("I'd like to see a bit more bend in the knees.", [], ['knee bend']),
  ("Look at your hands. They're too low.", [], ['hand positioning']),
  ('Balance, timing and knee bend all need work.', [], ['balance', 'timing', 'knee bend']),
  ('He needs to slow down a touch.', [], ['speed control']),
  ("Her footwork is excellent; however, she doesn't follow through.", ['footwork'], ['follow-through']),
  ("Don't lock your knees.", [], ['knee bend']),
  ('On the follow-through your head drops.', [], ['head position']),
  ('Everything was spot on except the follow-through.', [], ['follow-through']),
  ('You rushed into the ball and your feet were too close together.', [], ['speed control', 'foot positioning']),
  ("There's no need to rush.", [], ['speed control']),
  ('The swing stops dead at contact.', [], ['follow-through']),
  ('You reach the ball a beat late.', [], ['timing']),
  ('Instead of staring at the floor, look up.', [], ['head position']),
  ('Bend your knees to keep your balance.', [], ['knee bend']),
  ("You kept your balance beautifully, but you're standing up too tall.", ['balance'], ['knee bend']),
  ('You cut the swing short.', [], ['follow-through']),
  ('Much better speed than last time.', ['speed control'], []),
  ('Your left hand is dropping below your waist.', [], ['hand positioning']),
  ('The off arm flies out to the side.', [], ['hand positioning']),
  ("You're toppling over to your left.", [], ['balance']),
  ("It's all out of sync.", [], ['timing']),
  ('You hesitated in the middle.', [], ['speed control']),
  ('Your body keeps spinning after the kick.', [], ['follow-through']),
  (
    "The player's guide hand is a little too wide; otherwise the footwork was superb.",
    ['footwork'],
    ['hand positioning'],
  ),
  ('Core is loose through the middle of the rep.', [], ['core engagement']),
  ('Open your hips earlier.', [], ['hip rotation']),
  ('The arms stay bent, so straighten your elbows fully.', [], ['arm extension']),
  ('Chest up, you are hunching over.', [], ['body positioning']),
  ('A powerful strike, but it goes off target.', ['power'], ['accuracy']),
  ('Well done!', [], []),
  ('He takes the ball in front of the goal.', [], []),
]


def faults_in(text: str) -> list[str]:
  return LexiconDiscoverer().discover(text).incorrect


@pytest.mark.parametrize(('text', 'correct', 'incorrect'), COMMENTS)
def test_comments(text, correct, incorrect):
  found = LexiconDiscoverer().discover(text, 'soccer')
  assert (found.correct, found.incorrect) == (correct, incorrect)


@pytest.mark.parametrize(
  ('text', 'incorrect'),
  [
    ('Your shot selection is poor.', ['shot selection']),
    ('The rebound reading needs work.', ['rebound reading']),
    ('Work on your ball shielding.', ['ball shielding']),
    ('The shot was poor.', []),
    ('Your shot selection is great.', []),
  ],
)
def test_what_the_lexicon_lacks_is_kept_in_its_own_words(text, incorrect):
  assert faults_in(text) == incorrect


@pytest.mark.parametrize(
  'text',
  [
    'Keep it up.',
    "That's what good looks like.",
    'On to the next one.',
    'I have very little to criticise.',
    "Your hands are exactly where they need to be, and you don't rush.",
    'The stance is neither too wide nor too narrow.',
    'Your follow-through is getting better and better.',
    'You could not ask for better balance.',
    "You're not late any more.",
    'Super soft knees, great hands!',
    'She plants her foot and shoots.',
    'The climber reaches for the next hold with her right hand.',
    'I have no worries about the timing.',
    'Your head stays where it should.',
  ],
)
def test_praise_and_plain_telling_hold_no_fault(text):
  assert faults_in(text) == []


@pytest.mark.parametrize(
  'text', ['', '   ', '\n', '...', '👍👍', '🤔', '!!!', '12345', 'El equilibrio fue malo.', 'バランスが悪い。', None]
)
def test_nothing_to_read_yields_nothing(text):
  assert LexiconDiscoverer().discover(text) == Attributes([], [])


def test_emoji_and_capitals_do_not_disturb():
  assert faults_in('👀 YOUR HEAD IS DOWN!!! 😬') == ['head position']


def test_a_long_comment_says_what_its_sentences_say():
  text = 'Great balance, but your hands are late and the knees are too straight. '
  assert faults_in(text * 500) == faults_in(text)
  assert faults_in('your knees are too straight and ' * 2000) == ['knee bend']
  assert faults_in('word ' * 20000) == []


def test_a_concept_that_is_praised_and_criticised_is_incorrect_once():
  found = LexiconDiscoverer().discover('Good balance at the start. You wobble. You wobble again. The balance is lost.')
  assert found == Attributes([], ['balance'])


@pytest.mark.parametrize(
  ('phrase', 'concept'),
  [
    ('balance', 'balance'),
    ('Foot placement', 'foot positioning'),
    ('follow through', 'follow-through'),
    ('hands', 'hand positioning'),
    ('late release', 'timing'),
    ('stiff knees', 'knee bend'),
    ('squat depth', 'knee bend'),
    ('head down', 'head position'),
    ('pace', 'speed control'),
    ('core strength', 'core engagement'),
    ('quantum', None),
    ('', None),
  ],
)
def test_name_concept(phrase, concept):
  assert name_concept(phrase) == concept


def test_every_concept_is_found_by_its_own_name():
  assert {name: name_concept(name) for name in concept_names()} == {name: name for name in concept_names()}


def test_no_pattern_stands_in_the_lexicon_twice():
  lexicon = rules.load('lexicon.toml')
  patterns = collections.Counter(
    pattern for kinds in lexicon['concepts'].values() for listed in kinds.values() for pattern in listed
  )
  assert [pattern for pattern, n in patterns.items() if n > 1] == []


def test_phrases_are_the_words_of_the_expert_and_name_the_same_concepts():
  text = 'Great balance, but your knees stay too straight. Work on your foot placement.'
  names, phrases = (LexiconDiscoverer(phrases).discover(text) for phrases in (False, True))
  assert phrases.incorrect == ['knees straight', 'foot placement']
  assert [name_concept(phrase) for phrase in phrases.incorrect] == names.incorrect == ['knee bend', 'foot positioning']
  assert LexiconDiscoverer(True).fingerprint != LexiconDiscoverer().fingerprint
