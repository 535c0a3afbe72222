import pytest

from crosstrainer_jax.discovery.agreement import Agreement, agreement, table

PAIRS = [
  ({'balance', 'timing'}, ['balance']),
  ({'balance'}, ['balance', 'power']),
  (set(), ['balance']),
  ({'timing'}, ['timing']),
  (set(), []),
]


def test_counts_and_scores():
  counts = agreement(PAIRS)
  assert counts == {'balance': Agreement(2, 1, 0), 'power': Agreement(0, 1, 0), 'timing': Agreement(1, 0, 1)}
  assert (counts['balance'].precision, counts['balance'].recall) == (pytest.approx(2 / 3), 1)
  assert counts['balance'].f1 == pytest.approx(0.8)
  assert counts['timing'].f1 == pytest.approx(2 / 3)
  assert (counts['power'].precision, counts['power'].recall, counts['power'].f1) == (0, 0, 0)


def test_a_repeated_attribute_counts_once():
  assert agreement([({'balance'}, ['balance', 'balance'])]) == {'balance': Agreement(1, 0, 0)}


def test_table_sums_the_true_faults_and_names_the_rest():
  text = table(agreement(PAIRS))
  (total,) = [line for line in text.splitlines() if line.startswith('all of these')]
  assert total.split()[-4:] == ['0.750', '0.750', '0.750', '4']
  assert 'power (1)' in text


def test_table_of_nothing():
  assert '0.000' in table(agreement([]))
