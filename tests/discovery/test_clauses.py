import pytest

from crosstrainer_jax.discovery import clauses


def cut(text):
  return [' '.join(stretch.tokens) for sentence in clauses.sentences(text) for stretch in clauses.stretches(sentence)]


def test_sentences_end_at_stops_and_line_breaks():
  assert list(clauses.sentences('Nice. Go on!\nBend\u2026 now;')) == [['nice'], ['go', 'on'], ['bend'], ['now']]
  assert list(clauses.sentences('...!?')) == []


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ("don't", 'do not'),
    ('don\u2019t', 'do not'),
    ("can't", 'can not'),
    ('cannot', 'can not'),
    ("it's", 'it is'),
    ("player's knee", 'player knee'),
    ("I'd", 'i would'),
    ('dont', 'do not'),
    ('follow-through', 'follow through'),
    ('\u00c9t\u00e9', '\u00e9t\u00e9'),
  ],
)
def test_contractions_hyphens_and_accents(text, words):
  assert list(clauses.sentences(text)) == [words.split()]


@pytest.mark.parametrize(
  ('text', 'stretches'),
  [
    ('Good start, but the feet are wide', ['good start', 'the feet are wide']),
    ('Good start and the hands are low', ['good start', 'the hands are low']),
    ('Nice and slow', ['nice and slow']),
    ('Not yet good', ['not yet good']),
    ('You have a problem with the hands', ['you have a problem with the hands']),
    ('You are so late', ['you are so late']),
    ('You rush so your balance goes', ['you rush', 'your balance goes']),
    ('Bend \u2013 then drive', ['bend', 'drive']),
  ],
)
def test_stretches(text, stretches):
  assert cut(text) == stretches


@pytest.mark.parametrize(
  ('text', 'mark'),
  [
    ('Good but low', 'contrast'),
    ('All good apart from the hands', 'exception'),
    ('Look up instead of down', 'replaced'),
    ('Bend the knees to keep your balance', 'purpose'),
    ('Bend the knees so that you stay on balance', 'purpose'),
    ('You gain height if you bend', 'condition'),
    ('The head drops when you land', 'circumstance'),
  ],
)
def test_the_last_stretch_knows_how_it_hangs_on(text, mark):
  (sentence,) = clauses.sentences(text)
  first, last = clauses.stretches(sentence)
  assert getattr(last, mark)
  assert mark == 'contrast' or not getattr(first, mark)


def test_an_advised_verb_is_no_purpose():
  (sentence,) = clauses.sentences('You need to keep your balance')
  assert [stretch.purpose for stretch in clauses.stretches(sentence)] == [False]
