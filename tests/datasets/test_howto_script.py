import collections

from crosstrainer_jax.datasets.howto import script
from crosstrainer_jax.datasets.skillsim import grammar


def test_lessons_follow_from_seed_and_index():
  assert script.lesson(0, 3) == script.lesson(0, 3)
  assert script.lesson(0, 3) != script.lesson(1, 3)
  assert script.lesson(0, 3).channel == script.lesson(0, 4).channel != script.lesson(0, 5).channel


def test_what_is_true_of_a_piece_follows_from_its_kind():
  pieces = [piece for index in range(60) for piece in script.lesson(0, index).pieces]
  kinds = collections.Counter(piece.kind for piece in pieces)
  assert {'right', 'mistake', 'advice', 'caution', 'greeting', 'advert', 'story', 'farewell'} == set(kinds)
  for piece in pieces:
    shown = piece.kind in ('right', 'mistake')
    assert piece.demonstrated == shown
    assert piece.actionable == (shown or piece.kind in ('advice', 'caution')) == bool(piece.fault)
    assert piece.execution == {'right': 'correct', 'mistake': 'incorrect'}.get(piece.kind, 'none')
    assert (piece.severity > 0) == (piece.kind == 'mistake')
    assert script.SECONDS * piece.number < piece.start < piece.end < script.SECONDS * (piece.number + 1)
    assert '{' not in piece.text
    assert piece.text[0].isupper()


def test_instructors_do_not_speak_as_experts_do():
  """Else a clip could be found by its words alone."""
  experts = {
    phrase
    for fault in grammar.load(grammar.DEFAULT)['criticism'].values()
    for d in fault.values()
    for phrase in d['phrasings']
  }
  taught = {
    phrase
    for fault in script.narration()['concept'].values()
    for d in fault.values()
    for kind in d.values()
    for phrase in kind
  }
  assert len(taught) == 128
  assert not experts & taught
