"""Text scores against public packages that only tests need: `rouge`, pycocoevalcap; METEOR with a real WordNet."""

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from nltk.translate.meteor_score import meteor_score

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation import meteor, wordnet
from crosstrainer_jax.evaluation.feedback import text_statistics
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from crosstrainer_jax.evaluation.prefix_kept import PREFIX, prefix_kept_statistics, rouge_l
from tests.evaluation.texts import EDGES, random_texts

pytestmark = pytest.mark.parity
Rouge = pytest.importorskip('rouge').Rouge
Bleu = pytest.importorskip('pycocoevalcap.bleu.bleu').Bleu

COUNT = 1500
SAID = [*random_texts(10, COUNT), *(pair[0] for pair in EDGES)]
EXPECTED = [*random_texts(11, COUNT, shortest=1), *(pair[1] for pair in EDGES)]


@pytest.fixture
def without_wordnet(monkeypatch):
  monkeypatch.setattr(meteor, 'synonyms', lambda: ('METEOR-es', NoSynonyms()))


def reference(number: int, text: str) -> Reference:
  return Reference(f'clip{number}', f'take{number}', 'soccer', 'kick', '', [], None, text)


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


def released_procedure(references: list[str], candidates: list[str], synonyms) -> tuple[float, float, float]:
  """BLEU-4, METEOR, ROUGE-L × 100 in the steps of ExpertAF's calculate_generation_metrics.py."""
  expected, said = [[text.split()] for text in references], [text.split() for text in candidates]
  bleu = corpus_bleu(expected, said, smoothing_function=SmoothingFunction().method4)
  rouge = Rouge().get_scores([' '.join(c) for c in said], [' '.join(r[0]) for r in expected], avg=True)['rouge-l']['f']
  each = [meteor_score(r, c, wordnet=synonyms) for r, c in zip(expected, said, strict=True)]
  return 100 * bleu, 100 * sum(each) / len(each), 100 * rouge


def test_prefix_kept_equals_the_released_procedure_with_its_packages(without_wordnet):
  # the scorer's own call raises for a text without a word
  pairs = [(a, b) for a, b in zip(SAID, EXPECTED, strict=True) if a.strip()]
  assert len(pairs) >= 1000
  said, expected = map(list, zip(*pairs, strict=True))
  scores = prefix_kept_statistics(said, [reference(i, text) for i, text in enumerate(expected)])
  public = released_procedure([f'{PREFIX} {b}' for b in expected], [f'{PREFIX} {a}' for a in said], NoSynonyms())
  assert [value(score) for score in scores.values()] == pytest.approx(public, abs=1e-6)


def test_rouge_l_of_every_pair_equals_the_package():
  package, empty = Rouge(metrics=['rouge-l']), 0
  for said, expected in zip(SAID, EXPECTED, strict=True):
    try:
      public = package.get_scores(said, expected)[0]['rouge-l']['f']
    except ValueError:  # nothing, or nothing but dots
      public, empty = 0.0, empty + 1
    assert rouge_l(said, expected) == pytest.approx(public, abs=1e-12), (said, expected)
  assert 0 < empty < 200


def test_bleu_equals_that_of_coco_on_the_same_tokens(without_wordnet):
  """COCO's BLEU has no smoothing, which a corpus of this size does not need; its ROUGE-L (beta 1.2) is another one."""
  from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

  tokens = Tokenizer13a()
  expected = {i: [tokens(text.lower())] for i, text in enumerate(EXPECTED)}
  said = {i: [tokens(text.lower())] for i, text in enumerate(SAID)}
  public = Bleu(4).compute_score(expected, said, verbose=0)[0][3]
  scores = text_statistics(SAID, [reference(i, text) for i, text in enumerate(EXPECTED)])
  assert all(text.strip() for text in EXPECTED)
  assert value(scores['BLEU-4']) == pytest.approx(100 * public, abs=1e-4)


def test_meteor_with_a_real_wordnet(monkeypatch):
  reader = wordnet.find()
  if reader is None:
    pytest.skip('no WordNet: python -m crosstrainer_jax.evaluation.wordnet')
  monkeypatch.setattr(meteor, 'synonyms', lambda: ('METEOR', reader))
  said = [f'{text} begin the kick near the foot' for text in SAID[:1000]]
  expected = [f'{text} start kicking close to the feet' for text in EXPECTED[:1000]]
  scores = prefix_kept_statistics(said, [reference(i, text) for i, text in enumerate(expected)])
  public = released_procedure([f'{PREFIX} {b}' for b in expected], [f'{PREFIX} {a}' for a in said], reader)
  assert [value(score) for score in scores.values()] == pytest.approx(public, abs=1e-6)
  without = np.mean(
    [meteor_score([b.split()], a.split(), wordnet=NoSynonyms()) for a, b in zip(said, expected, strict=True)]
  )
  found = np.mean([meteor.meteor(tuple(a.split()), tuple(b.split())) for a, b in zip(said, expected, strict=True)])
  assert found > without + 0.05
  for file in reader._data_file_map.values():
    file.close()
