"""The model card and the licences, as far as they are known."""

import dataclasses

import ml_collections
import pytest

from crosstrainer_jax.inference import model_card
from crosstrainer_jax.inference.model_card import Licences
from crosstrainer_jax.inference.trained import read_trained

FRONT = '---\nlanguage:\n- en\nlicense: {}\nbase_model: x\n---\n# Model\nlicense: mit\n'


@pytest.mark.parametrize(
  ('files', 'stated'),
  [
    ({'README.md': FRONT.format('apache-2.0')}, 'apache-2.0'),
    ({'README.md': FRONT.format("'mit'"), 'LICENSE': 'Other'}, 'mit'),
    ({'README.md': FRONT.format('other\nlicense_name: qwen\nlicense_link: LICENSE')}, 'qwen, LICENSE'),
    ({'README.md': FRONT.format('other')}, 'other'),
    ({'README.md': '# Model\nlicense: mit\n'}, ''),
    ({'LICENSE.txt': '\n\nLLAMA 3.1 COMMUNITY LICENSE\nmore'}, 'LICENSE.txt: LLAMA 3.1 COMMUNITY LICENSE'),
    ({'LICENSE': ''}, ''),
    ({}, ''),
  ],
)
def test_what_lies_beside_weights(files, stated, tmp_path):
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  (tmp_path / 'model.bin').touch()
  assert model_card.stated_licence(tmp_path) == stated
  assert model_card.stated_licence(tmp_path / 'model.bin') == stated


@pytest.mark.parametrize(
  ('data', 'weights', 'common'),
  [
    ({'Apache-2.0': 3}, {'L': 'apache-2.0', 'f_v': 'Apache-2.0'}, 'apache-2.0'),
    ({'Apache-2.0': 3, 'MIT': 1}, {'f_v': 'Apache-2.0'}, ''),
    ({'Apache-2.0': 3, '': 1}, {'f_v': 'Apache-2.0'}, ''),
    ({'Apache-2.0': 3}, {'f_v': ''}, ''),
    ({'': 3}, {'f_v': ''}, ''),
    ({}, {'f_v': 'MIT'}, ''),
    (None, {'f_v': 'Apache-2.0'}, ''),
  ],
)
def test_the_whole_has_a_licence_only_where_all_parts_have_it(data, weights, common):
  assert Licences(data, weights).common == common


def test_licences_are_listed():
  text = Licences({'CC-BY-4.0': 12, '': 3}, {'L: owner/name': 'llama3.1', 'f_v: mine': ''}).describe()
  for line in (
    '| CC-BY-4.0 | 12 |',
    '| not stated | 3 |',
    '| L: owner/name | llama3.1 |',
    '| f_v: mine | not stated |',
  ):
    assert line in text
  assert 'Unknown: the dataset was no longer there' in Licences(None, {}).describe()


@pytest.fixture(scope='module')
def trained(small_run):
  return read_trained(small_run)


def card_of(trained, clips=0, **changes):
  licences = model_card.find_licences(trained)
  return model_card.model_card(dataclasses.replace(trained, **changes), licences, {'prompts.json': 'prompts'}, clips)


def test_the_card_says_what_one_must_know(trained, small_run):
  text = card_of(trained, 4)
  assert text.startswith('---\nlicense: apache-2.0\nlibrary_name: transformers\ntags:\n- video\n')
  assert 'base_model' not in text
  report = (small_run / 'report.md').read_text()
  table = next(line for line in report.splitlines() if line.startswith('| CrossTrainer |'))
  for part in (
    'Trained on simulated athletes alone',
    '| `prompts.json` | prompts |',
    'basketball, fitness, rock climbing',
    'ZS-3, held out: soccer',
    'from nothing',
    'features of 4 test clips',
    'alone is a language model that sees no video',
    'windows of 4 s, from up to 3 views',
    'no probability',
    table,
  ):
    assert part in text, part
  assert text.count('# skillsim, ZS-3') == 0
  assert '--clips 20' in card_of(trained)


def test_what_is_unknown_is_said(trained, tmp_path):
  for name in ('config.json', 'model.json'):
    (tmp_path / name).write_bytes((trained.workdir / name).read_bytes())
  real = dataclasses.replace(trained.card, simulated=False, threshold=0.5, precision=0.75, validation_clips=8)
  config = ml_collections.ConfigDict(trained.config.to_dict())
  config.split.setting = 'FIT'
  lost = dataclasses.replace(trained, workdir=tmp_path, card=real, config=config)
  text = model_card.model_card(lost, model_card.find_licences(lost), {}, 0)
  for part in (
    'license: unknown',
    'Not evaluated',
    'not recorded',
    'at least 0.50, 75% were right on 8 validation clips',
    'Tested on the very clips that trained it',
    'not known',
  ):
    assert part in text, part
  assert 'simulated' not in text
  assert 'probe rates' not in text


def test_local_paths_are_not_told(tmp_path):
  assert model_card.shown(str(tmp_path)) == tmp_path.name
  assert model_card.shown('owner/name') == 'owner/name'
  assert model_card.shown('/gone/weights') == 'weights'


@pytest.mark.parametrize(
  ('text', 'without'),
  [
    ("./x.sh c.py --weights='/my weights/base' --workdir=/home/me/run/", "./x.sh c.py --weights='base' --workdir=run/"),
    ('| /home/me/a.txt | 1/2 of a / b |', '| a.txt | 1/2 of a / b |'),
    ('https://arxiv.org/abs/1 runs/a/b ../c', 'https://arxiv.org/abs/1 runs/a/b ../c'),
  ],
)
def test_of_paths_the_last_part_is_left(text, without, trained):
  config = ml_collections.ConfigDict(trained.config.to_dict())
  config.decoder.weights = '/my weights/base'
  assert model_card.without_places(text, dataclasses.replace(trained, config=config)) == without
