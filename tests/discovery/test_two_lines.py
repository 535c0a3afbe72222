"""What models write, and what is made of it."""

import pytest

from crosstrainer_jax.discovery import two_lines
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.language_model import CUT, REFUSED, Answer, Unreadable

BOTH = Attributes(['balance', 'follow-through'], ['knee bend', 'hand position'])


@pytest.mark.parametrize(
  'text',
  [
    'Correct - balance, follow-through.\nIncorrect - knee bend, hand position.',
    'correct: Balance, Follow-through\nINCORRECT: knee bend, hand position',
    '**Correct** - balance, follow-through\n\n**Incorrect** – knee bend, hand position',
    '**Correct:** balance, follow-through  \n**Incorrect:** knee bend, hand position',
    'Incorrect - knee bend, hand position\nCorrect - balance, follow-through',
    '```\nCorrect - balance, follow-through\nIncorrect - knee bend, hand position\n```',
    '1. Correct - balance, follow-through\n2. Incorrect - knee bend, hand position',
    'Correct concepts:\n- balance\n- follow-through\n\nIncorrect concepts:\n* knee bend\n* hand position',
    '### Correct\n1. balance\n2. follow-through\n### Incorrect\n1. knee bend\n2. hand position',
    'Here are the concepts:\n\nCorrect - balance, follow-through\nIncorrect - knee bend, hand position\n\nLet me know!',
    '<think>Correct - nothing? Hm.</think>\nCorrect - balance, follow-through\nIncorrect - knee bend, hand position',
    'Correct - balance,\n  follow-through\nIncorrect - knee bend, hand position',
    'Correct - balance, follow-through. Incorrect - knee bend, hand position.',
    '{"correct": ["balance", "follow-through"], "incorrect": ["knee bend", "hand position"]}',
    '```json\n{"Correct": "balance, follow-through", "Incorrect": "knee bend, hand position"}\n```',
    'Correct (as noted by the expert): balance, follow-through\nIncorrect (to be changed): knee bend, hand position',
    'Correctly executed: balance, follow-through\nIncorrectly executed: knee bend, hand position',
    'Correct - balance, follow-through, Balance\r\nIncorrect - knee bend, hand position, None mentioned\r\n',
    # who criticises it asks for a change
    'Correct - balance, knee bend, follow-through\nIncorrect - knee bend, hand position',
    # the draft above is not the answer
    'Correct - x\nIncorrect - y\nFinally:\nCorrect - balance, follow-through\nIncorrect - knee bend, hand position',
  ],
)
def test_forms_that_are_forgiven(text):
  assert two_lines.read(Answer(text)) == BOTH


@pytest.mark.parametrize(
  'nothing',
  [
    'none',
    'None.',
    'N/A',
    '',
    '-',
    'nothing',
    'None mentioned by the expert',
    'no incorrect concepts noted',
    'None were noted',
  ],
)
def test_nothing_is_an_empty_list(nothing):
  assert two_lines.read(Answer(f'Correct - balance\nIncorrect - {nothing}')) == Attributes(['balance'], [])


def test_the_absence_of_something_is_a_concept():
  assert two_lines.read(Answer('Correct - none\nIncorrect - no follow through, no power')).incorrect == [
    'no follow through', 'no power',
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('answer', 'reason'),
  [
    (Answer(''), 'empty'),
    (Answer('Great jump, well done!'), 'no line Correct and no line Incorrect: Great jump'),
    (Answer('Correct - balance'), 'no line Incorrect'),
    (Answer('The correct concepts are balance and timing'), 'no line'),
    (Answer('Correct - comma separated concepts.\nIncorrect - comma separated concepts.'), 'the form itself'),
    (Answer('Correct - …\nIncorrect - …'), 'the form itself'),
    (Answer('Correct - the concepts, separated by commas.\nIncorrect - none'), 'the form itself'),
    (Answer('Correct - none\nIncorrect - the athlete should really try to bend both knees a lot more'), 'a sentence'),
    (Answer('Correct - none\nIncorrect - ' + ', '.join(f'part {i}' for i in range(31))), '31 concepts'),
    (Answer('<think>Correct - a\nIncorrect - b'), 'thoughts'),
    (Answer('Correct - balance\nIncorrect - kn', CUT), 'cut'),
    (Answer('I cannot help with that.', REFUSED), 'refused: I cannot'),
  ],
)
def test_what_is_no_answer_is_told(answer, reason):
  with pytest.raises(Unreadable, match=reason):
    two_lines.read(answer)


def test_the_fingerprint_is_short_and_stays():
  assert two_lines.fingerprint() == two_lines.fingerprint()
  assert len(two_lines.fingerprint()) == 10
