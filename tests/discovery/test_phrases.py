import pytest

from crosstrainer_jax.discovery.phrases import MAX_GAP, PhraseTable


def found(table, text):
  return [(match.value, match.positions) for match in table.find(text.split())]


def test_words_prefixes_alternatives_and_classes():
  table = PhraseTable([('$part bend*', 'a'), ('late', 'b')], {'part': '$leg|hip', 'leg': 'knee|knees'})
  assert found(table, 'knees bending late') == [('a', (0, 1)), ('b', (2,))]
  assert found(table, 'hip bends') == [('a', (0, 1))]
  assert found(table, 'ankle bends') == []


def test_a_gap_has_a_limit():
  table = PhraseTable([('knees ... straight', 1)])
  for words in range(MAX_GAP + 2):
    assert bool(table.find(['knees', *['x'] * words, 'straight'])) == (words <= MAX_GAP)


def test_the_longer_of_two_overlapping_patterns_stays_and_order_is_by_position():
  table = PhraseTable([('foot', 'part'), ('foot placement', 'name'), ('good', 'cue')])
  assert found(table, 'good foot placement foot') == [('cue', (0,)), ('name', (1, 2)), ('part', (3,))]


def test_of_equally_long_patterns_the_tighter_stays():
  table = PhraseTable([('feet ... apart', 'wide'), ('feet ... shoulder', 'fine')])
  assert found(table, 'feet at shoulder width apart') == [('fine', (0, 2))]


def test_words_in_a_gap_are_free_for_other_patterns():
  table = PhraseTable([('knees ... straight', 'a'), ('too', 'b')])
  assert found(table, 'knees too straight') == [('a', (0, 2)), ('b', (1,))]


@pytest.mark.parametrize('pattern', ['... a', 'a ...', 'a ... ... b', '', '$nowhere'])
def test_a_malformed_pattern_is_refused(pattern):
  with pytest.raises(ValueError, match='pattern'):
    PhraseTable([(pattern, 0)])
