"""What must fit together in a config. A new rule is one function here and one name in `RULES`.

A rule sees the leaves of the config by their dotted path and yields a sentence for each problem; it passes over a
config that has no such settings.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crosstrainer_jax.backends import BACKENDS, MODELS
from crosstrainer_jax.configs import arguments
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.input.splits import FIT, KSHOT, SETTINGS, SPORT
from crosstrainer_jax.models.attention import KERNELS
from crosstrainer_jax.models.crosstrainer import decoder_config
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.quantized import KINDS
from crosstrainer_jax.training.sharding import MESH_AXES
from crosstrainer_jax.wording import TEXTS

Values = Mapping[str, Any]

CHOICES = {
  'data.text': TEXTS,
  'split.setting': (*SETTINGS, SPORT, KSHOT, FIT),
  'discovery.backend': tuple(BACKENDS),
  'encoder.source': ('features', 'frames'),
  'training.optimizer.name': ('adamw', 'muon'),
  'contrastive.optimizer.name': ('adamw',),
  'contrastive.head': ('own', 'none'),
  'rerank.answer': ('yes/no', 'attributes'),
  'encoder.dtype': ('', 'float32', 'bfloat16'),
  'decoder.dtype': ('float32', 'bfloat16'),
  'decoder.param_dtype': ('float32', 'bfloat16'),
  'decoder.attention': KERNELS,
  'decoder.quantize': ('', *KINDS),
  # of evaluation/attributes.py, whose libraries take a second to import
  'eval.matching': ('hungarian', 'greedy'),
  'eval.empty': ('1', 'skip'),
}
TRAINED_ROWS = ('end to end without attributes', 'video zeroed', 'fine-tuned retrieval', 'attribute retrieval')

# Shares, probabilities and dials.
FROM_0_TO_1 = (
  'data.skillsim.entanglement',
  'data.skillsim.commentary_noise',
  'data.skillsim.camera_shift',
  'training.view_dropout',
  'training.name_dropout',
  'stage2.true_ratio',
  'assess.target_precision',
  'training.optimizer.warmup_fraction',
  'contrastive.optimizer.warmup_fraction',
  'contrastive.optimizer.final_fraction',
  'training.optimizer.final_fraction',
)
AT_LEAST_1 = (
  'assess.validation_clips',
  'rerank.top',
  'rerank.batch_size',
  'rerank.narration_tokens',
  'discovery.concurrency',
  'discovery.max_tokens',
  'data.skillsim.train_clips',
  'data.skillsim.test_clips',
  'decoder.quantize_tile',
  'prompt.k',
  'encoder.batch_size',
  'training.batch_size',
  'training.accumulate',
  'training.prefetch',
  'training.save_every',
  'training.keep',
  'training.profile_updates',
  'training.log_every',
  'eval.batch_size',
  'eval.max_attribute_tokens',
  'eval.max_feedback_tokens',
  'eval.resamples',
  'assess.samples',
  'contrastive.layers',
  'contrastive.dim',
  'contrastive.max_text_tokens',
  'contrastive.batch_size',
  'contrastive.block',
)
AT_LEAST_0 = (
  'rerank.attribute_epochs',
  'seed',
  'data.views',
  'eval.confidence_clips',
  'discovery.retries',
  'discovery.requests_per_minute',
  'split.seed',
  'training.row_tokens',
  'training.workers',
  'training.threads',
  'training.evaluate_every',
  'training.keep_every',
  'training.watchdog',
  'training.profile_at',
  'stage2.feedback',
  'stage2.attributes',
  'stage2.folds',
  'probe.steps',
  'encoder.fps',
  'encoder.size',
  'lora.rank',
)
ABOVE_0 = (
  'rerank.epochs',
  'discovery.timeout',
  'stage1.epochs',
  'stage2.epochs',
  'stage2.fold_epochs',
  'training.optimizer.learning_rate',
  'contrastive.epochs',
  'contrastive.optimizer.learning_rate',
  'assess.temperature',
)


def choices(values: Values) -> Iterator[str]:
  """A name that is not one of those known."""
  for path, known in CHOICES.items():
    if path in values and values[path] not in known:
      yield f'{path} is {values[path]!r}: {arguments.nearest(str(values[path]), known)}'
  for row in values.get('eval.rows', ()):
    if row not in TRAINED_ROWS:
      yield f'eval.rows names {row!r}: {arguments.nearest(row, TRAINED_ROWS)}'


def ranges(values: Values) -> Iterator[str]:
  """A number out of its range."""

  def outside(paths: tuple[str, ...], fits: Callable[[float], bool], wanted: str) -> Iterator[str]:
    for path in paths:
      if path in values and not fits(values[path]):
        yield f'{path} is {values[path]}, not {wanted}'

  yield from outside(FROM_0_TO_1, lambda x: 0 <= x <= 1, 'between 0 and 1')
  yield from outside(AT_LEAST_1, lambda x: x >= 1, 'at least 1')
  yield from outside(AT_LEAST_0, lambda x: x >= 0, 'at least 0')
  yield from outside(ABOVE_0, lambda x: x > 0, 'above 0')
  yield from outside(('split.validation_share',), lambda x: 0 <= x < 1, 'from 0 to below 1')


def held_out(values: Values) -> Iterator[str]:
  """A zero-shot setting needs something that is held out, of the names that the embedded world has."""
  setting, name = values.get('split.setting'), values.get('split.held_out')
  if setting is None:
    return
  if (setting.startswith('ZS') or setting == KSHOT) and not name:
    what = 'skill' if setting in ('ZS-1', 'ZS-2') else 'sport'
    yield f'split.setting is {setting}, so split.held_out must name a {what}'
  shots = values.get('split.shots', 0)
  if (setting == KSHOT) != (shots > 0):
    yield f'split.shots is {shots}, and split.setting {setting}: shots are for {KSHOT}, which needs at least 1'
  source = values.get('split.source', '')
  if setting == SPORT and not source:
    yield f'split.setting is {SPORT}, so split.source must name the sport that trains'
  if source and setting != SPORT:
    yield f'split.source is {source!r}, which says what trains under split.setting {SPORT} alone'
  if values.get('data.dataset') != 'skillsim':
    return
  if source and source not in SPORTS:
    yield f'split.source is {source!r}: {arguments.nearest(source, list(SPORTS))}'
  if name:
    known = list(SPORTS)
    if setting in ('ZS-1', 'ZS-2', SPORT):
      known = [form for sport, skills in SPORTS.items() for s in skills for form in (s.name, f'{sport}/{s.name}')]
    if name not in known:
      yield f'split.held_out is {name!r}: {arguments.nearest(name, known)}'


def window(values: Values) -> Iterator[str]:
  """μ1 and μ2 are seconds, or both 0 for all that was prepared."""
  given = values.get('data.window')
  if given is not None and not (len(given) == 2 and all(s >= 0 for s in given)):
    yield f'data.window is {given}: give μ1 and μ2 in seconds, or (0, 0) for all that was prepared'


def text(values: Values) -> Iterator[str]:
  """Which words are learnt fits the dataset and the file of sentences."""
  if (wanted := values.get('data.text')) is None:
    return
  if (wanted == 'condensed') != bool(values.get('data.condensed')):
    yield f'data.text is {wanted}: data.condensed names the file of sentences for condensed, and for nothing else'
  if (wanted == 'expertaf') != (values.get('data.dataset') == 'expertaf'):
    yield f'data.text is {wanted}, and data.dataset {values.get("data.dataset")}: expertaf is the text of that dataset'


def noise(values: Values) -> Iterator[str]:
  """Shares of wrong attributes are shares."""
  for share in values.get('eval.noise', ()):
    if not 0 < share <= 1:
      yield f'eval.noise has {share}, not a share above 0 and up to 1'


def baseline(values: Values) -> Iterator[str]:
  """A baseline is taken off a BERT-score."""
  if values.get('eval.bert_baseline') and not values.get('eval.bert'):
    yield 'eval.bert_baseline names a file, but eval.bert names no encoder whose scores it would rescale'


def tasks(values: Values) -> Iterator[str]:
  """Stage II trains on something, and on attributes that are there."""
  if 'stage2.feedback' not in values:
    return
  if values['stage2.feedback'] < 1:
    yield 'stage2.feedback is 0: stage II would never learn to give feedback'
  if values['stage2.folds'] == 1:
    yield 'stage2.folds is 1: a prediction out of fold needs at least 2 folds, 0 turns it off'
  if values['stage2.folds'] == 0 and values['stage2.true_ratio'] < 1:
    yield 'stage2.folds is 0: nothing is predicted out of fold, so stage2.true_ratio must be 1'


def decoder(values: Values) -> Iterator[str]:
  """The shape of L, by its own checks; that of a pretrained one is checked where its directory is read."""
  if 'decoder.weights' in values:
    if not values['decoder.weights']:
      yield 'decoder.weights is empty: name a directory, or a repository of the Hugging Face hub (owner/name)'
    return
  shape = {path.removeprefix('decoder.'): value for path, value in values.items() if path.startswith('decoder.')}
  if shape:
    try:
      decoder_config(shape.pop('name', ''), {'vocab_size': values['tokenizer.vocab_size'], **shape})
    except (TypeError, ValueError) as error:
      yield str(error)


def language_model(values: Values) -> Iterator[str]:
  """A language model of discovery has a name."""
  backend = values.get('discovery.backend')
  if backend in MODELS and not values.get('discovery.model'):
    yield f'discovery.backend is {backend!r}, but discovery.model names no model'


def adapters(values: Values) -> Iterator[str]:
  """Adapters by their own checks; the weights that they adapt are frozen."""
  quantize = values.get('decoder.quantize')
  if values.get('lora.weights') and not values.get('decoder.weights'):
    yield 'lora.weights names an adapter, but decoder.weights names no L that it was trained beside'
  if not values.get('lora.rank'):
    if values.get('lora.weights'):
      yield 'lora.weights names an adapter: lora.rank must be its rank, not 0'
    if quantize:
      yield f'decoder.quantize is {quantize}: kernels in 4 bits do not train, so lora.rank must be above 0'
    return
  try:
    LoRAConfig(**{name: values[f'lora.{name}'] for name in ('rank', 'alpha', 'dropout', 'targets')})
  except ValueError as error:
    yield str(error)
    return
  frozen = values.get('training.frozen', ())
  kernel = 'decoder/layers/attention/q_proj/kernel' + ('/qvalue' if quantize else '')
  try:
    holds = any(re.search(pattern, kernel) for pattern in frozen)
  except re.error:  # `patterns` says so
    return
  if not holds:
    yield "lora.rank is above 0, but L trains as well: freeze it, training.frozen=('^decoder/(?!.*lora_)',)"


def merger(values: Values) -> Iterator[str]:
  """A pretrained f_m takes features as they are."""
  if values.get('mapper.weights') and values.get('mapper.whiten'):
    yield 'mapper.weights names an f_m that was trained on plain features: mapper.whiten must be false'


def towers(values: Values) -> Iterator[str]:
  """The heads of a tower divide its width."""
  width, heads = values.get('contrastive.width', 1), values.get('contrastive.heads', 1)
  if heads < 1 or width < 1 or width % heads:
    yield f'contrastive.width is {width}, which does not divide into contrastive.heads={heads}'


def mesh(values: Values) -> Iterator[str]:
  """One size for each axis, at most one of them open."""
  for name in ('mesh', 'mesh_across'):
    shape = values.get(name)
    if shape is not None and (
      len(shape) != len(MESH_AXES) or list(shape).count(-1) > 1 or not all(s > 0 or s == -1 for s in shape)
    ):
      yield f'{name} is {shape}: give one positive size for each of {", ".join(MESH_AXES)}, at most one of them -1'


def rows(values: Values) -> Iterator[str]:
  """Rows that clips share are no longer than what L reads."""
  row, longest = values.get('training.row_tokens', 0), values.get('decoder.max_position', 0)
  if longest and row > longest:
    yield f'training.row_tokens is {row}, more than decoder.max_position of {longest}'


def patterns(values: Values) -> Iterator[str]:
  """Learning-rate rules are pairs of a regular expression and a factor; what is frozen, regular expressions."""
  frozen = [(path, pattern) for path in ('training.frozen', 'contrastive.frozen') for pattern in values.get(path, ())]
  for path, pattern in frozen:
    try:
      re.compile(pattern)
    except re.error as error:
      yield f'{path}: {pattern!r} is no regular expression ({error})'
  for path in (path for path in values if path.endswith('.learning_rate_rules')):
    for rule in values[path]:
      try:
        pattern, factor = rule
        re.compile(pattern)
        if factor < 0:
          yield f'{path}: the factor of {pattern!r} is {factor}, not at least 0'
      except (TypeError, ValueError, re.error) as error:
        yield f'{path}: {rule!r} is no pair of a regular expression and a factor ({error})'


RULES = (
  choices,
  ranges,
  held_out,
  window,
  text,
  noise,
  baseline,
  tasks,
  language_model,
  decoder,
  mesh,
  rows,
  patterns,
  adapters,
  merger,
  towers,
)


def problems(values: Values) -> list[str]:
  """What does not fit together, a sentence each; empty when all is well."""
  return [problem for rule in RULES for problem in rule(values)]
