"""Parity of the text scores with the public packages, and masked nouns."""

import math

import numpy as np
import pytest
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from crosstrainer_jax.evaluation import feedback
from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.feedback import (
  bleu,
  mask_nouns,
  masked_statistics,
  noun_pattern,
  text_statistics,
)
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from crosstrainer_jax.evaluation.prefix_kept import PREFIX
from tests.evaluation.texts import EDGES, random_texts


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


def references_of(reference, texts):
  return [reference(i, commentary=text) for i, text in enumerate(texts)]


CORPORA = [
  (random_texts(0, 1200), random_texts(1, 1200, shortest=1)),
  tuple(zip(*EDGES, strict=True)),
  (random_texts(2, 3), random_texts(3, 3, shortest=1)),
  ([''] * 3, random_texts(4, 3, shortest=1)),  # says nothing
  (['ball'], ['ball']),  # no 4-grams at all
  (['the ball is'], ['the ball is']),
  (['the ball is kicked'], ['the ball is kicked']),
  (['qq ww ee rr tt'], ['the ball is kicked too early']),  # no match
  (['the ww ball rr is'], ['the ball is kicked too early']),  # unigrams only: smoothed
  (['the ball rr is kicked'], ['the ball is kicked too early']),
  (['The BALL is kicked.'], ['the ball is kicked .']),  # case and punctuation
  (['', 'the ball is kicked too early'], ['the ball', 'the ball is kicked too early !']),
  (['knee ' * 30], ['the knee']),
]


@pytest.mark.parametrize(('said', 'expected'), CORPORA)
def test_parity_with_public_packages(reference, said, expected):
  scores = text_statistics(said, references_of(reference, expected))
  said, expected = list(said), list(expected)
  public = BLEU(lowercase=True)
  assert value(scores['BLEU-4']) == pytest.approx(public.corpus_score(said, [expected]).score, abs=1e-9)
  rouge = RougeScorer(['rougeL'])
  mean = np.mean([rouge.score(r, s)['rougeL'].fmeasure for s, r in zip(said, expected, strict=True)])
  assert value(scores['ROUGE-L']) == pytest.approx(100 * mean)
  tokens = public.tokenizer
  mean = np.mean(
    [
      meteor_score([tokens(r.lower()).split()], tokens(s.lower()).split(), wordnet=NoSynonyms())
      for s, r in zip(said, expected, strict=True)
    ]
  )
  assert value(scores['METEOR-es']) == pytest.approx(100 * mean)


def test_bleu_of_many_resamples_agrees_with_sacrebleu_one_by_one():
  rng = np.random.default_rng(0)
  totals = np.sort(rng.integers(0, 12, size=(500, 4)), axis=1)[:, ::-1]
  matches = (totals * rng.choice([0, 0.5, 1], size=totals.shape)).astype(int)
  lengths = rng.integers(1, 15, size=(500, 2))
  ours = bleu(np.concatenate([lengths, matches, totals], axis=1).astype(float))
  for row, (said, expected), m, t in zip(ours, lengths, matches, totals, strict=True):
    public = BLEU.compute_bleu(m.tolist(), t.tolist(), int(said), int(expected), smooth_method='exp').score
    assert row == pytest.approx(public, abs=1e-9)


def test_unreadable_feedback_scores_as_empty(reference):
  expected = references_of(reference, ['the ball is kicked', 'the knee is bent'])
  one, two = (text_statistics([said, 'the knee is bent'], expected) for said in (None, ''))
  assert {name: value(score) for name, score in one.items()} == {name: value(score) for name, score in two.items()}


def test_fixed_words_before_the_answer_are_taken_off_both_sides(reference):
  texts = ['Bend your knees more before you jump.', 'Good balance.']
  plain = text_statistics(texts, references_of(reference, texts[::-1]))
  for prefix in ('', 'Feedback:'):
    words = prefix or PREFIX
    clips = [reference(i, commentary=f'{words} {text}', prefix=prefix) for i, text in enumerate(texts[::-1])]
    kept = text_statistics([f'{words} {text}' for text in texts], clips)
    assert {name: value(score) for name, score in kept.items()} == {name: value(score) for name, score in plain.items()}


def test_clips_without_commentary_are_not_counted(reference):
  scores = text_statistics(['anything', 'the ball is kicked'], references_of(reference, ['', 'the ball is kicked']))
  assert {name: value(score) for name, score in scores.items()} == pytest.approx(
    {'BLEU-4': 100, 'METEOR-es': 100 * (1 - 0.5 / 64), 'ROUGE-L': 100}
  )
  interval = bootstrap(scores['BLEU-4'], ['t0', 't1'])
  assert (interval.n_clips, interval.n_takes) == (1, 1)


def test_without_any_commentary_scores_are_undefined(reference):
  scores = text_statistics(['anything'], references_of(reference, ['']))
  assert all(math.isnan(value(score)) for score in scores.values())


def test_variants_say_that_wordnet_is_missing():
  lines = feedback.variants()
  assert any(line.startswith('METEOR-es') and 'WordNet' in line for line in lines)
  assert any('nrefs:1|case:lc|eff:no|tok:13a|smooth:exp' in line for line in lines)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('Keep the ball close.', 'Keep the sportnoun close.'),
    ('BALLS and Volleyballs', 'sportnoun and Volleyballs'),  # whole words only
    ('hit the free throws', 'hit the sportnoun'),
    ('a free-throw', 'a sportnoun'),
    ('two trophies, one trophy', 'two sportnoun, one sportnoun'),
    ('a soccer ball', 'a sportnoun'),  # the longer noun wins
    ('matches', 'sportnoun'),
    ('balloon', 'balloon'),
    ('', ''),
  ],
)
def test_masked_nouns(text, expected):
  assert mask_nouns(text, noun_pattern(['ball', 'soccer ball', 'Free throw', 'trophy', 'match'])) == expected


def test_no_nouns_mask_nothing():
  assert noun_pattern([]) is None
  assert noun_pattern(['', ' ']) is None
  assert mask_nouns('the ball', None) == 'the ball'


def test_masked_scores_forgive_the_noun_and_nothing_else(reference):
  expected = references_of(reference, ['keep the ball close to you'])
  plain = text_statistics(['keep the holds close to you'], expected)
  masked = masked_statistics(['keep the holds close to you'], expected, ['ball', 'hold'])
  unmasked = masked_statistics(['keep the holds close to you'], expected, ['racket'])
  assert value(masked['BLEU-4 masked']) == pytest.approx(100)
  assert value(masked['ROUGE-L masked']) == pytest.approx(100)
  assert value(unmasked['BLEU-4 masked']) == value(plain['BLEU-4']) < 100
