"""BERTScore of a tiny random encoder against its equations in NumPy; against the package: tests/parity."""

import functools
import math
import pathlib

import numpy as np
import pytest

from crosstrainer_jax.evaluation import bert_score
from crosstrainer_jax.evaluation.attributes import iou
from crosstrainer_jax.evaluation.bert_score import BertScore, fingerprint, inverse_document_frequency, read_baseline
from crosstrainer_jax.evaluation.feedback import bert_statistic
from crosstrainer_jax.evaluation.scores import Reading, columns, score, variants
from tests.models import tiny_text_encoders

TEXTS = ['bend your knees', 'knees', '', ' keep the elbow in.', 'in in in', 'bend ' * 18, 'your [SEP] knees', '☃']
PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return functools.cache(lambda family: tiny_text_encoders.write(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope='module')
def bert(folder):
  return BertScore.load(folder('bert'))


def equations(score: BertScore, candidate: str, reference: str, idf: dict[int, float] | None) -> list[float]:
  """P, R, F of one pair, token by token."""
  encoder = score.encoder
  sides = []
  for text in (candidate, reference):
    text = text.strip() and score._before + text.strip()
    ids = encoder.tokens([text])[0].ids.tolist()
    special = (encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id)
    weights = [float(i not in special) if idf is None else idf.get(i, idf[bert_score.UNSEEN]) for i in ids]
    sides.append((encoder.hidden([text], score.layer)[0].astype(float), weights))

  def cosine(x, y):
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))

  def mean(mine, other):
    best = [max(cosine(x, y) for y in other[0]) for x in mine[0]]
    return sum(w * b for w, b in zip(mine[1], best, strict=True)) / sum(mine[1])

  if not all(any(weights) for _, weights in sides):
    return [0.0, 0.0, 0.0]
  precision, recall = mean(sides[0], sides[1]), mean(sides[1], sides[0])
  return [precision, recall, 2 * precision * recall / (precision + recall)]


@pytest.mark.parametrize(('family', 'idf'), [('bert', False), ('roberta', False), ('bert', True)])
def test_the_equations(folder, family, idf):
  texts = ['bend your knees', 'bend the elbow', 'bend it in'] if idf else None
  found = BertScore.load(folder(family), idf_texts=texts)
  weights = inverse_document_frequency([t.ids.tolist() for t in found.encoder.tokens(texts)]) if idf else None
  expected = [equations(found, a, b, weights) for a, b in PAIRS]
  np.testing.assert_allclose(found([a for a, _ in PAIRS], [b for _, b in PAIRS]), expected, atol=2e-6)


def test_words_of_roberta_begin_with_a_space(folder):
  found = BertScore.load(folder('roberta'))
  assert found._ids(['in', '  in ']) == [found.encoder.tokens([' in'])[0].ids.tolist()] * 2
  assert BertScore.load(folder('bert'))._before == ''


def test_a_pair_is_the_same_alone_in_any_batch_and_again(folder, bert, monkeypatch):
  together = bert([a for a, _ in PAIRS], [b for _, b in PAIRS])
  alone = BertScore.load(folder('bert'))
  monkeypatch.setattr(bert_score, 'BATCH_NUMBERS', 32 * 64)  # two pairs at a time
  monkeypatch.setattr(bert_score, 'KEPT_TOKENS', 5)
  monkeypatch.setattr(bert_score, 'BLOCK', 3)
  np.testing.assert_allclose(alone([a for a, _ in PAIRS], [b for _, b in PAIRS]), together, atol=1e-6)
  assert sum(len(weights) for _, weights in alone._texts.values()) <= 5
  monkeypatch.setattr(bert, '_compare', lambda pairs: pytest.fail('computed again'))
  assert bert.f1(PAIRS).tolist() == together[:, 2].tolist()


def test_symmetric_one_for_itself_and_zero_for_nothing(bert):
  forward, back = bert.f1(PAIRS).reshape(len(TEXTS), -1), bert.f1([(b, a) for a, b in PAIRS]).reshape(len(TEXTS), -1)
  np.testing.assert_allclose(forward, back, atol=1e-6)
  own = np.diag(forward)
  assert own[TEXTS.index('')] == 0
  np.testing.assert_allclose(np.delete(own, TEXTS.index('')), 1, atol=1e-6)


def test_weights_by_hand():
  found = inverse_document_frequency([[1, 2, 2], [1, 3]])
  assert found == pytest.approx({bert_score.UNSEEN: math.log(3), 1: 0, 2: math.log(3 / 2), 3: math.log(3 / 2)})


def test_a_baseline_is_taken_off(folder, bert, tmp_path):
  file = tmp_path / 'tiny.tsv'
  file.write_text('LAYER,P,R,F\n' + ''.join(f'{layer},0.{layer}5,0.3,0.25\n' for layer in range(4)))
  raw, rescaled = bert(['knees'], ['bend in']), BertScore.load(folder('bert'), baseline=file)(['knees'], ['bend in'])
  baseline = np.array([float(f'0.{bert.layer}5'), 0.3, 0.25])
  np.testing.assert_allclose(rescaled, (raw - baseline) / (1 - baseline), atol=1e-6)
  with pytest.raises(ValueError, match=r'no line LAYER,P,R,F for layer 9'):
    read_baseline(file, 9)
  with pytest.raises(FileNotFoundError, match='no such file of baselines'):
    read_baseline(tmp_path / 'absent.tsv', 1)
  file.write_text('LAYER,P,R,F\n1,1.0,0.3,0.25\n')
  with pytest.raises(ValueError, match='not below 1'):
    read_baseline(file, 1)


def test_the_name_says_which_weights_and_which_layer(folder, bert, tmp_path):
  assert bert.layer == 3  # of an unknown depth
  assert bert.name == f'{folder("bert").name} {fingerprint(folder("bert"))}, layer 3 of 3'
  other = tiny_text_encoders.write(tmp_path / 'other', 'bert')
  assert fingerprint(other) == fingerprint(folder('bert'))
  (other / 'vocab.txt').write_text((other / 'vocab.txt').read_text().replace('knees', 'necks'))
  assert fingerprint(other) != fingerprint(folder('bert'))
  with pytest.raises(ValueError, match='layer 4 is asked for, the encoder has 0'):
    BertScore.load(folder('bert'), layer=4)
  with pytest.raises(FileNotFoundError):
    BertScore.load(pathlib.Path(tmp_path / 'nowhere'))


def test_it_is_the_iou_of_the_paper(bert, references, perfect):
  reading = Reading(lambda _: [], lambda _: None, [], bert=bert)
  assert {'IoU@0.7', 'IoU@0.8', 'IoU@1.0', 'BERT'} <= set(columns(reading))
  text = '\n'.join(variants(reading))
  assert text.count(bert.name) == 2
  assert 'IoU-lex' not in text
  scores = score(perfect, references, reading, resamples=20)
  assert scores['headline/IoU@0.7'].value == pytest.approx(100)
  assert scores['headline/BERT'].value == pytest.approx(100, abs=1e-4)
  alike = bert.f1([('bend your knees', 'your knees')])[0]
  assert iou(['bend your knees'], ['Your  knees'], bert.similarity(), alike - 1e-6) == 1
  assert iou(['bend your knees'], ['Your  knees'], bert.similarity(), alike + 1e-6) == 0


def test_texts_are_averaged_over_clips_with_commentary(bert, reference):
  clips = [reference(0, commentary='bend your knees'), reference(1, commentary=''), reference(2, commentary='elbow in')]
  statistic = bert_statistic(['knees', 'knees', None], clips, bert)
  assert statistic.counted.tolist() == [True, False, True]
  assert statistic.sums[:, 0] == pytest.approx([bert.f1([('knees', 'bend your knees')])[0], 0, 0])
