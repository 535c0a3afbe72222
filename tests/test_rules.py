"""Tests of crosstrainer_jax/rules.py, on the shipped configs."""

import re

import pytest

from crosstrainer_jax import rules, settings
from crosstrainer_jax.evaluation import attributes

CROSS_SPORT = 'configs/cross_sport.py'


@pytest.mark.parametrize(
  ('overrides', 'problem'),
  [
    (['split.setting=ZS-4'], "split.setting is 'ZS-4': did you mean ZS-"),
    (['eval.matching=hungary'], "eval.matching is 'hungary': did you mean hungarian?"),
    (['eval.bert_baseline=roberta-large.tsv'], 'eval.bert_baseline names a file, but eval.bert names no encoder'),
    (['encoder.source=pixels'], "encoder.source is 'pixels': valid: features, frames"),
    (['discovery.backend=openai'], "discovery.backend is 'openai', but discovery.model names no model"),
    (['discovery.timeout=0'], 'discovery.timeout is 0.0, not above 0'),
    (['discovery.backend=lexikon'], "discovery.backend is 'lexikon': did you mean lexicon?"),
    (['eval.rows=("video zero",)'], "eval.rows names 'video zero': did you mean video zeroed?"),
    (['data.skillsim.entanglement=1.5'], 'data.skillsim.entanglement is 1.5, not between 0 and 1'),
    (['training.batch_size=0'], 'training.batch_size is 0, not at least 1'),
    (['seed=-1'], 'seed is -1, not at least 0'),
    (['stage1.epochs=0'], 'stage1.epochs is 0.0, not above 0'),
    (['split.validation_share=1'], 'split.validation_share is 1.0, not from 0 to below 1'),
    (['split.held_out='], 'split.setting is ZS-3, so split.held_out must name a sport'),
    (['split.shots=5'], 'split.shots is 5, and split.setting ZS-3: shots are for K-shot'),
    (['split.setting=K-shot'], 'K-shot, which needs at least 1'),
    (['split.setting=K-shot', 'split.shots=5', 'split.held_out='], 'split.held_out must name a sport'),
    (['contrastive.heads=3'], 'contrastive.width is 64, which does not divide into contrastive.heads=3'),
    (['contrastive.frozen=("(",)'], "contrastive.frozen: '(' is no regular expression"),
    (['split.held_out=socer'], "split.held_out is 'socer': did you mean soccer?"),
    (
      ['split.setting=ZS-1', 'split.held_out=penalty kik'],
      "split.held_out is 'penalty kik': did you mean penalty kick?",
    ),
    (['stage2.feedback=0'], 'stage II would never learn to give feedback'),
    (['stage2.folds=1'], 'needs at least 2 folds'),
    (['stage2.folds=0'], 'stage2.true_ratio must be 1'),
    (['decoder.num_kv_heads=3'], 'decoder: num_heads = 4 is no multiple of num_kv_heads = 3'),
    (['decoder.remat=some'], 'decoder: remat must be one of'),
    (['mesh=(1,-1)'], 'mesh is (1, -1): give one positive size for each of replica, fsdp, tensor'),
    (['mesh=(-1,-1,1)'], 'at most one of them -1'),
    (['mesh=(1,0,1)'], 'one positive size'),
    (['mesh_across=(1,1)'], 'mesh_across is (1, 1): give one positive size'),
    (['training.row_tokens=640'], 'training.row_tokens is 640, more than decoder.max_position of 512'),
    (['decoder.attention=flash'], "decoder.attention is 'flash'"),
    (['training.accumulate=0'], 'training.accumulate is 0, not at least 1'),
    (['lora.weights=adapter'], 'decoder.weights names no L that it was trained beside'),
    (['training.optimizer.learning_rate_rules=(("^mapper(",2.0),)'], 'is no pair of a regular expression and a factor'),
    (['training.optimizer.learning_rate_rules=(("^mapper",-2.0),)'], "the factor of '^mapper' is -2.0"),
  ],
)
def test_what_does_not_fit_is_refused(overrides, problem):
  with pytest.raises(settings.SettingsError, match=re.escape(problem)):
    settings.load_config(CROSS_SPORT, overrides)


@pytest.mark.parametrize(
  ('overrides', 'problem'),
  [
    (['decoder.quantize=nf8'], "decoder.quantize is 'nf8': did you mean nf4?"),
    (['decoder.quantize=nf4', 'lora.rank=0'], 'kernels in 4 bits do not train, so lora.rank must be above 0'),
    (['decoder.quantize=nf4', 'training.frozen=("kernel$",)'], 'L trains as well: freeze it'),
    (['lora.weights=adapter', 'lora.rank=0'], 'lora.weights names an adapter: lora.rank must be its rank, not 0'),
    (['decoder.quantize_tile=0'], 'decoder.quantize_tile is 0, not at least 1'),
  ],
)
def test_what_does_not_fit_the_paper_is_refused(overrides, problem):
  with pytest.raises(settings.SettingsError, match=re.escape(problem)):
    settings.load_config(f'{CROSS_SPORT}:paper', overrides)


def test_a_decoder_in_4_bits_is_taken():
  for kind in ('nf4', 'int4'):
    assert settings.load_config(f'{CROSS_SPORT}:paper', [f'--config.decoder.quantize={kind}']).decoder.quantize == kind


@pytest.mark.parametrize(
  'overrides',
  [
    ['split.held_out=rock climbing'],
    ['split.setting=FS', 'split.held_out='],
    ['data.dataset=my_videos', 'split.held_out=judo'],
    ['stage2.folds=0', 'stage2.true_ratio=1'],
    ['mesh=(2,-1,2)'],
    ['eval.rows=()'],
  ],
)
def test_what_fits_is_taken(overrides):
  settings.load_config(CROSS_SPORT, overrides)


def test_every_named_setting_exists():
  """A setting that was renamed must not slip out of its rule."""
  configs = (CROSS_SPORT, f'{CROSS_SPORT}:paper', 'configs/retrieval.py')
  known = {name for config in configs for name in settings.flatten(settings.load_config(config))}
  named = {*rules.CHOICES, *rules.FROM_0_TO_1, *rules.AT_LEAST_1, *rules.AT_LEAST_0, *rules.ABOVE_0}
  assert named <= known


def test_choices_of_iou_are_those_of_its_module():
  assert (rules.CHOICES['eval.matching'], rules.CHOICES['eval.empty']) == (attributes.MATCHINGS, attributes.EMPTY)
