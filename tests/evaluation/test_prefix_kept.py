"""The released scorer's scores, by nltk itself; its rouge-l is compared with the package in tests/parity."""

import math

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from nltk.translate.meteor_score import meteor_score

from crosstrainer_jax.evaluation import prefix_kept
from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from crosstrainer_jax.evaluation.prefix_kept import (
  PREFIX,
  common_words,
  prefix_kept_statistics,
  rouge_l,
  with_prefix,
  without_prefix,
)
from crosstrainer_jax.evaluation.scores import Reading, score
from tests.evaluation.texts import EDGES, random_texts

BLEU, METEOR, ROUGE = 'BLEU-4 prefix-kept', 'METEOR-es prefix-kept', 'ROUGE-L prefix-kept'


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


def nltk_bleu(pairs):
  references, said = [[b.split()] for _, b in pairs], [a.split() for a, _ in pairs]
  return 100 * corpus_bleu(references, said, smoothing_function=SmoothingFunction().method4)


def test_the_prefix_has_the_15_words():
  assert len(PREFIX.split()) == 15


@pytest.mark.parametrize('prefix', ['', 'Feedback: '])
def test_the_prefix_is_put_on_once_and_taken_off(prefix):
  words = prefix.strip() or PREFIX
  assert with_prefix('Bend your knees.', prefix) == f'{words} Bend your knees.'
  assert with_prefix(f'{words} Bend your knees.', prefix) == f'{words} Bend your knees.'
  assert without_prefix(f' {words}  Bend your knees.', prefix) == 'Bend your knees.'
  assert without_prefix('Bend your knees.', prefix) == 'Bend your knees.'
  assert with_prefix(' ', prefix) == with_prefix(words, prefix) == ''  # no answer


@pytest.mark.parametrize('count', [1, 2, 1200])
def test_equals_the_released_procedure(reference, count):
  said, expected = random_texts(0, count), random_texts(1, count, shortest=1)
  clips = [reference(i, commentary=text) for i, text in enumerate(expected)]
  scores = prefix_kept_statistics(said, clips)
  pairs = [(f'{PREFIX} {a}' if a else '', f'{PREFIX} {b}') for a, b in zip(said, expected, strict=True)]
  assert value(scores[BLEU]) == pytest.approx(nltk_bleu(pairs), abs=1e-9)
  each = [meteor_score([b.split()], a.split(), wordnet=NoSynonyms()) for a, b in pairs]
  assert value(scores[METEOR]) == pytest.approx(100 * np.mean(each), abs=1e-9)


@pytest.mark.parametrize('pair', EDGES)
def test_bleu_of_an_edge_case_equals_nltk(pair):
  counts = prefix_kept.bleu_counts(*(tuple(text.split()) for text in pair))
  assert float(prefix_kept.bleu(np.array(counts, float))) == pytest.approx(nltk_bleu([pair]), abs=1e-9)


def test_a_resample_is_the_score_of_that_corpus():
  """Method 4 depends on the length of the whole corpus; sums over clips suffice all the same."""
  pairs = list(zip(random_texts(2, 30), random_texts(3, 30, shortest=1), strict=True))
  counts = np.array([prefix_kept.bleu_counts(*(tuple(text.split()) for text in pair)) for pair in pairs], float)
  rng = np.random.default_rng(0)
  draws = rng.multinomial(4, np.full(30, 1 / 30), size=50)  # small corpora: most orders are smoothed
  for draw, ours in zip(draws, prefix_kept.bleu(draws @ counts), strict=True):
    assert ours == pytest.approx(nltk_bleu([pair for pair, n in zip(pairs, draw, strict=True) for _ in range(n)]))


def test_rouge_l_by_hand():
  assert rouge_l('a b c', 'a c') == pytest.approx(2 * (2 / 3) / (2 / 3 + 1), abs=1e-7)
  # words count once, sentences end at dots, and the sequences of all pairs of sentences are put together
  assert rouge_l('a a b. c d', 'c. a b') == pytest.approx(2 * (3 / 4) / (3 / 4 + 1), abs=1e-7)
  assert rouge_l('...', 'a') == rouge_l('', 'a') == rouge_l('a', 'b') == 0
  assert common_words(tuple('ab'), tuple('ba')) == {'b'}  # of two, the package's choice
  assert rouge_l('word ' * 3000, 'word ' * 30) == pytest.approx(1, abs=1e-7)  # no recursion


def test_what_says_nothing_earns_nothing_by_the_prefix(reference):
  clips = [reference(0, commentary='Bend your knees.'), reference(1, commentary='')]
  for nothing in (None, '', ' ', PREFIX):
    scores = prefix_kept_statistics([nothing, 'x'], clips)
    assert [value(score) for score in scores.values()] == [0, 0, 0]
    assert scores[BLEU].counted.tolist() == [True, False]
  assert all(
    math.isnan(value(score)) for score in prefix_kept_statistics(['x'], [reference(1, commentary='')]).values()
  )


def test_both_protocols_stand_side_by_side(reference):
  """The words that nobody earned: unrelated texts score under the released scorer, and not in the headline."""
  texts = [
    'Bend the knees before the jump', 'Look where you pass', 'Hold that elbow in', 'Move faster through cones',
  ]  # fmt: skip
  clips = [
    reference(i, commentary=text, prefix=f'{PREFIX} ', faults=None, attributes=['a']) for i, text in enumerate(texts)
  ]
  shuffled = [r.answer(feedback=f'{PREFIX} {text}') for r, text in zip(clips, texts[1:] + texts[:1], strict=True)]
  scores = score(shuffled, clips, Reading(lambda _: [], lambda _: None, []), resamples=20)
  assert scores['all/BLEU-4'].value < 5
  assert scores['all/ROUGE-L'].value < 10
  assert scores[f'all/{BLEU}'].value > 60
  assert scores[f'all/{METEOR}'].value > 60
  assert scores[f'all/{ROUGE}'].value > 60
  bare = [r.answer(feedback=text) for r, text in zip(clips, texts[1:] + texts[:1], strict=True)]
  assert str(score(bare, clips, Reading(lambda _: [], lambda _: None, []), resamples=20)) == str(scores)


def test_intervals_come_from_sums(reference):
  clips = [reference(i, commentary=text) for i, text in enumerate(random_texts(5, 40, shortest=1))]
  scores = prefix_kept_statistics(random_texts(6, 40), clips)
  interval = bootstrap(scores[BLEU], [clip.take for clip in clips], resamples=200)
  assert interval.low < interval.value < interval.high
