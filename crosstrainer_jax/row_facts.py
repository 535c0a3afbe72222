"""What stands behind each row of the table: what it saw, which models, prompts, weights and texts."""

import hashlib
import json
from collections.abc import Iterable

import ml_collections

from crosstrainer_jax import wording
from crosstrainer_jax.baselines import BASELINES, RETRIEVAL
from crosstrainer_jax.baselines.zero_shot import ROW as ZERO_SHOT
from crosstrainer_jax.inference.zero_shot import ZeroShot
from crosstrainer_jax.input import prompts
from crosstrainer_jax.run import Run
from crosstrainer_jax.run_layout import STAGE2, TRAINED, folder_of

NOTHING = '–'
# Rows that copy from the training clips without a look at the one in question.
_BLIND = ('always none', 'random', 'majority')


def of_rows(run: Run, rows: Iterable[str], vlm: ZeroShot | None = None) -> dict[str, dict[str, str]]:
  """Row → what stands behind it, by heading."""
  truth = {'text': run.config.data.text, 'attributes': _discovery(run.config.discovery)}
  return {row: {'sees': _seen(run, row, vlm)} | _made_by(run, row, vlm) | truth for row in rows}


def prompts_hash(k: int) -> str:
  """Names the words of all prompts, with k filled in."""
  return hashlib.sha256(json.dumps([prompts.templates(), k], sort_keys=True).encode()).hexdigest()[:10]


def checkpoint_hash(run: Run, folder: str) -> str:
  """Names the parameters that a stage left, by their checksums; – where it left none."""
  done = run.workdir / folder / 'done.json'
  sums = json.loads(done.read_text()).get('checksums') if done.is_file() else None
  return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:10] if sums else NOTHING


def _seen(run: Run, row: str, vlm: ZeroShot | None) -> str:
  if row in _BLIND:
    return 'nothing of the clip'
  if row == 'sport-blind ceiling':
    return 'true joints'
  if row == ZERO_SHOT and vlm is not None:
    return str(vlm.eyes)
  encoder = run.video_encoder
  views = 1 if row.endswith('one view') else run.views
  frames = run.seconds * encoder.config.frames_per_token
  size = encoder.config.image_size
  zeroed = ', zeroed' if row.startswith('video zeroed') else ''
  return f'{views} × {frames} frames, {encoder.config.fps} a second, {size} pixels{zeroed}; {encoder.name}'


def _discovery(settings: ml_collections.ConfigDict) -> str:
  """What read the attributes in the text."""
  asked = f', {settings.model}, prompt {settings.prompt}' if settings.model else ''
  named = f', names {wording.fingerprint_of(settings)[:10]}' if settings.canonical else ''
  return f'{settings.backend}{asked}{named}'


def _made_by(run: Run, row: str, vlm: ZeroShot | None) -> dict[str, str]:
  """Decoder, prompts and checkpoint; – where a row has none."""
  absent = {'decoder': NOTHING, 'prompts': NOTHING, 'checkpoint': NOTHING}
  config = run.config
  if row == ZERO_SHOT and vlm is not None:
    return absent | {'decoder': vlm.asker.model.name, 'prompts': prompts_hash(vlm.k)}
  if row in BASELINES or row in RETRIEVAL or row == 'sport-blind ceiling':
    return absent
  trained = next((name for name in TRAINED if row.startswith(name)), '')
  if not trained and not row.endswith('noise') and not row.startswith('level'):
    return absent  # answers of another system
  decoder = config.decoder.get('weights') or (
    f'{config.decoder.name}, {config.decoder.num_layers} × {config.decoder.hidden_size}'
  )
  return {
    'decoder': decoder,
    'prompts': prompts_hash(config.prompt.k),
    'checkpoint': checkpoint_hash(run, folder_of(trained) if trained else STAGE2),
  }
