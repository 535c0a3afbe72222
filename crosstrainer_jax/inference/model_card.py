"""What is written about an exported model: its card (README.md, as the Hugging Face hub reads it) and its licences."""

import dataclasses
import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.input import splits
from crosstrainer_jax.weights import hub

PAPER = 'https://arxiv.org/abs/2511.13993'
# This package's, which is also that of the encoder that comes with it.
OURS = 'Apache-2.0'
NOT_STATED = 'not stated'
# What stands before the last part of an absolute path; it begins where no word, address or relative path goes on.
_ABSOLUTE = re.compile(r'(?<![\w.:/~<-])/(?:[^\s/\'"`|=,<>]+/)*(?=[^\s/\'"`|=,<>])')


@dataclasses.dataclass(frozen=True)
class Licences:
  """Under which licences is what a model was made from.

  Attributes:
    data: how many clips stand under each licence, '' for none stated; None where the dataset is no longer there.
    weights: what weights it started from -> their licence, '' for none stated.
  """

  data: Mapping[str, int] | None
  weights: Mapping[str, str]

  @property
  def common(self) -> str:
    """The one licence of all of it, as the hub writes licences; '' where there is none."""
    found = {name.lower() for name in (*(self.data or ('',)), *self.weights.values())}
    return found.pop() if len(found) == 1 else ''

  def describe(self) -> str:
    """licences.md."""
    lines = ['# Licences', '', '## Data', '']
    if self.data is None:
      lines.append('Unknown: the dataset was no longer there when this folder was written.')
    else:
      lines += ['What the records of the dataset say:', '', '| licence | clips |', '|---|---:|']
      lines += [f'| {_cell(name) or NOT_STATED} | {count} |' for name, count in self.data.items()]
    lines += ['', '## Weights', '', '| | licence |', '|---|---|']
    lines += [f'| {_cell(name)} | {_cell(licence) or NOT_STATED} |' for name, licence in self.weights.items()]
    lines += [
      '',
      'Whether a model made from these may be passed on, and how, does not follow from this list alone.',
      '',
    ]
    return '\n'.join(lines)


def _cell(text: str) -> str:
  return ' '.join(text.split()).replace('|', '\\|')


def find_licences(trained: Trained) -> Licences:
  """The licences of the data and of the weights behind a run."""
  weights = {}
  if trained.base is not None:
    weights[f'L: {shown(trained.config.decoder.weights)}'] = stated_licence(trained.base.directory)
  eyes = trained.config.encoder
  if eyes.weights == 'shipped':
    weights['f_v: shipped with crosstrainer_jax'] = OURS
  else:
    weights[f'f_v: {shown(eyes.weights)}'] = stated_licence(hub.locate(eyes.weights, eyes.revision))
  source = trained.source()
  return Licences(None if source is None else source.licences(), weights)


def shown(weights: str) -> str:
  """The name of weights as others know it: of what lies on this machine, the last part of its path."""
  path = Path(weights)
  return path.name if path.is_absolute() or path.exists() else weights


def without_places(text: str, trained: Trained) -> str:
  """A text without the places of files on this machine: of each absolute path the last part is left."""
  for part in ('encoder', 'decoder'):
    if weights := trained.config[part].get('weights'):
      text = text.replace(weights, shown(weights))
  return _ABSOLUTE.sub('', text)


def stated_licence(weights: Path) -> str:
  """What lies beside weights, or in their directory, about their licence; '' for nothing.

  The front matter of README.md says it in the hub's form; otherwise it is the first line of LICENSE.
  """
  directory = weights if weights.is_dir() else weights.parent
  readme = directory / 'README.md'
  text = readme.read_text(encoding='utf-8', errors='replace') if readme.is_file() else ''
  front = re.match(r'---\n(.*?)\n---', text, re.S)
  said = dict(re.findall(r'^(license(?:_name|_link)?):[ \t]*(\S.*)$', front[1], re.M)) if front else {}
  if said.get('license') == 'other' and said.keys() > {'license'}:
    return ', '.join(said[name].strip() for name in ('license_name', 'license_link') if name in said)
  if 'license' in said:
    return said['license'].strip().strip('\'"')
  for path in filter(Path.is_file, sorted(directory.glob('LICENSE*'))):
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
      if line.strip():
        return f'{path.name}: {line.strip()}'
  return ''


def model_card(trained: Trained, licences: Licences, contents: Mapping[str, str], clips: int) -> str:
  """README.md.

  Args:
    contents: file or folder -> what it is.
    clips: how many come with the answers that are to be expected.
  """
  name = trained.workdir.resolve().name
  sections = [
    _front_matter(trained, licences),
    f'# {name}',
    f'A CrossTrainer model ([Ashutosh & Grauman, NeurIPS 2025]({PAPER})), exported by crosstrainer_jax '
    f'{_version()}. From video features it writes the skill-attributes that a clip shows badly, then, given them, '
    'feedback for the athlete' + (', and a linear probe rates the level' if trained.probe else '') + '.',
    *_warnings(trained),
    '## What is here',
    '\n'.join(['| | |', '|---|---|', *(f'| `{file}` | {what} |' for file, what in contents.items())]),
    '## How to use it',
    _usage(trained, clips),
    '## What it was trained on',
    _training(trained),
    '## Evaluation',
    _evaluation(trained),
    '## Limits',
    _limits(trained),
    '## Licence',
    'Of data and weights behind it: [licences.md](licences.md). '
    + (f'All of it is under {licences.common}.' if licences.common else 'That of the whole is not known.'),
  ]
  return '\n\n'.join(sections) + '\n'


def _front_matter(trained: Trained, licences: Licences) -> str:
  lines = ['---', f'license: {licences.common or "unknown"}', 'library_name: transformers']
  if trained.base is not None and not Path(trained.config.decoder.weights).exists():
    lines += [f'base_model: {trained.config.decoder.weights}', 'base_model_relation: finetune']
  return '\n'.join(
    [*lines, 'tags:', *(f'- {tag}' for tag in ('video', 'sports', 'coaching', 'skill-assessment')), '---']
  )


def _warnings(trained: Trained) -> list[str]:
  warnings = []
  if trained.card.simulated:
    warnings.append(
      '> **Trained on simulated athletes alone.** On real video its words show the mechanics of the method, not advice.'
    )
  if trained.config.split.setting == splits.FIT:
    warnings.append(
      '> **Tested on the very clips that trained it.** Neither its scores nor its confidence hold for other videos.'
    )
  return warnings


def _usage(trained: Trained, clips: int) -> str:
  if trained.base is not None and trained.base.sees:
    size, fps = trained.encoder.config.image_size, trained.encoder.config.fps
    return (
      '`Qwen2_5_VLForConditionalGeneration.from_pretrained("FOLDER/language_model")` of transformers opens the whole '
      'model, and so does vLLM. A prompt of `prompts.json` says `<video>` once: there every view stands as a video of '
      f'its own, {fps} frames of {size} x {size} pixels a second. docs/qwen2_5_vl.md of crosstrainer_jax says more.'
    )
  check = (
    f'`clips.safetensors` holds features of {clips} test clips and `expected.json` the answers of crosstrainer_jax to '
    'them; the example compares its own with these.'
    if clips
    else 'Export with `--clips 20` to get clips and the answers that are to be expected, to check a deployment with.'
  )
  return (
    '`examples/assess_with_torch.py` of crosstrainer_jax does both passes with torch and transformers alone:\n\n'
    '```sh\npython assess_with_torch.py FOLDER FOLDER/clips.safetensors\n```\n\n'
    f'{check} Video tokens enter L as embeddings: `AutoModelForCausalLM.from_pretrained("FOLDER/language_model")` '
    'alone is a language model that sees no video. docs/export.md of crosstrainer_jax says how to serve it.'
  )


def _training(trained: Trained) -> str:
  card, split, recorded = trained.card, trained.config.split, trained.environment
  held_out = f', held out: {split.held_out}' if split.held_out else ''
  language = 'from nothing' if trained.base is None else f'from `{shown(trained.config.decoder.weights)}`'
  if trained.base is not None and trained.config.lora.rank:
    language += f', with LoRA of rank {trained.config.lora.rank}'
  facts = {
    'data': f'{card.dataset} (fingerprint {recorded.get("data_fingerprint", "not recorded")})',
    'sports': ', '.join(card.sports),
    'split': f'{split.setting}{held_out}',
    'f_v': f'{trained.encoder.name}, `{shown(trained.config.encoder.weights)}` (fingerprint {card.encoder})',
    'L': language,
    'seed': str(trained.config.seed),
    'commit': f'{recorded.get("commit", "not recorded")}{" with changes" if recorded.get("dirty") else ""}',
  }
  return '\n'.join(['| | |', '|---|---|', *(f'| {name} | {_cell(fact)} |' for name, fact in facts.items())])


def _evaluation(trained: Trained) -> str:
  path = trained.workdir / 'report.md'
  if not path.is_file():
    return 'Not evaluated: the run has no report.md. `python -m crosstrainer_jax.eval` makes it.'
  return without_places(path.read_text(encoding='utf-8').partition('\n')[2].strip(), trained)


def _limits(trained: Trained) -> str:
  card = trained.card
  if not card.validation_clips:
    sure = 'It had nobody to validate on, so no probability of an attribute means that it is sure.'
  elif card.threshold > 1:
    sure = 'On validation clips no attribute was right often enough, so no probability means that it is sure.'
  else:
    sure = (
      f'Of attributes that it samples with a probability of at least {card.threshold:.2f}, {card.precision:.0%} were '
      f'right on {card.validation_clips} validation clips; below that it should rather say "not sure".'
    )
  window = card.frames / trained.encoder.config.fps
  return '\n'.join(
    f'- {line}'
    for line in (
      f'It sees windows of {window:g} s, from up to {card.views} views of one person, as features of one f_v: those '
      'of any other encoder mean nothing to it.',
      f'It was trained on {", ".join(card.sports)}. On other sports, people and cameras only the scores above, where '
      'they are of such, say anything.',
      sure,
      'Attributes and feedback are generated text. They may be wrong, and are no medical or safety advice.',
    )
  )


def _version() -> str:
  try:
    return importlib.metadata.version('crosstrainer_jax')
  except importlib.metadata.PackageNotFoundError:
    return '(a checkout)'
