"""Sizes without weights: from a config.json, as published, or refused with what would be enough."""

import json

import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.models import llama_family, pretrained
from crosstrainer_jax.planning import sizes
from tests.models.test_llama_family import LLAMA_31_8B


def test_the_published_sizes_are_those_of_the_published_file():
  ours, theirs = (llama_family.decoder_config(fields) for fields in (sizes.LLAMA_8B, LLAMA_31_8B))
  assert ours == theirs
  large = llama_family.decoder_config(sizes.LLAMA_70B)
  assert (large.hidden_size, large.num_layers, large.num_heads, large.num_kv_heads) == (8192, 80, 64, 8)


def test_the_papers_decoder_needs_nothing_downloaded(tmp_path):
  config = settings.load_config('configs/cross_sport.py:paper')
  changed, source = sizes.with_decoder_sizes(config, tmp_path)
  assert 'as published' in source
  assert llama_family.read_config(changed.decoder.weights).hidden_size == 4096
  # the config of the caller is its own
  assert config.decoder.weights == 'meta-llama/Llama-3.1-8B-Instruct'


def test_a_directory_with_a_config_alone_is_enough(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(LLAMA_31_8B))
  config = settings.load_config('configs/cross_sport.py:paper', [f'decoder.weights={tmp_path}'])
  changed, source = sizes.with_decoder_sizes(config, tmp_path / 'scratch')
  assert changed.decoder.weights == str(tmp_path)
  assert source.endswith('config.json')
  own = settings.load_config('configs/cross_sport.py')
  assert sizes.with_decoder_sizes(own, tmp_path) == (own, 'sizes of the config')


def test_what_is_not_known_is_refused_with_what_would_do(tmp_path):
  config = settings.load_config('configs/cross_sport.py:paper', ['decoder.weights=someone/else'])
  with pytest.raises(FileNotFoundError, match=r'hf download someone/else config.json'):
    sizes.with_decoder_sizes(config, tmp_path)


def test_width_of_the_features():
  load = settings.load_config
  assert sizes.feature_dim(load('configs/cross_sport.py:paper'))[0] == 4096
  assert sizes.feature_dim(load('configs/cross_sport.py:paper'), given=7) == (7, 1, 'given')
  clip = load('configs/cross_sport.py:paper', ['encoder.weights=openai/clip-vit-large-patch14'])
  assert sizes.feature_dim(clip)[0] == 768
  width, each, source = sizes.feature_dim(load('configs/cross_sport.py'))
  assert (width > 0, source) == (True, 'shipped')
  with pytest.raises(ValueError, match='--feature_dim'):
    sizes.feature_dim(load('configs/cross_sport.py:paper', ['encoder.weights=someone/else']))


def test_qwen_makes_a_picture_of_every_second():
  load = settings.load_config
  assert sizes.feature_dim(load('configs/cross_sport.py:qwen2_5_vl'))[:2] == (5120, 64)
  small = load('configs/cross_sport.py:qwen2_5_vl', ['encoder.size=112', 'encoder.fps=4'])
  assert sizes.feature_dim(small)[:2] == (5120, 32)


@pytest.mark.parametrize(('size', 'hidden', 'layers'), [('3B', 2048, 36), ('7B', 3584, 28)])
def test_sizes_of_qwen_as_published(size, hidden, layers, tmp_path):
  name = f'Qwen/Qwen2.5-VL-{size}-Instruct'
  config = settings.load_config(
    'configs/cross_sport.py:qwen2_5_vl', [f'{part}.weights={name}' for part in ('mapper', 'decoder')]
  )
  changed, source = sizes.with_decoder_sizes(config, tmp_path)
  assert 'as published' in source
  assert changed.mapper.weights == changed.decoder.weights == str(tmp_path)
  decoder, merger = pretrained.find(changed).config, pretrained.find_mapper(changed)
  assert (decoder.hidden_size, decoder.num_layers, decoder.mrope_section) == (hidden, layers, (16, 24, 24))
  assert (merger.inputs, merger.outputs) == (5120, hidden)
