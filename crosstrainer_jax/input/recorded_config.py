"""The config that a run has recorded, read as this version of the package understands it."""

import json
from pathlib import Path
from typing import Any

import ml_collections

from crosstrainer_jax.input.buckets import as_path

CONFIG_FILE = 'config.json'

# Settings that runs of earlier versions have not recorded, with the values at which a run is what it was without them.
# Whitening was no setting then: features of a frozen encoder were always whitened.
LATER: dict[str, dict[str, Any]] = {
  'data': {'window': (0.0, 0.0), 'views': 0, 'text': 'raw', 'condensed': ''},
  'split': {'source': '', 'shots': 0},
  'eval': {
    'noise': (),
    'confidence_clips': 100,
    'bert': '',
    'bert_baseline': '',
    'matching': 'hungarian',
    'empty': '1',
  },
  'discovery': {
    'model': '',
    'base_url': '',
    'api_key_env': 'OPENAI_API_KEY',
    'prompt': 'paper',
    'temperature': 0.0,
    'max_tokens': 300,
    'retries': 2,
    'concurrency': 4,
    'requests_per_minute': 0.0,
    'timeout': 120.0,
    'answers': '',
    'canonical': '',
  },
  'encoder': {'revision': '', 'fps': 0, 'size': 0, 'dtype': ''},
  'lora': {'rank': 0, 'alpha': 256.0, 'dropout': 0.05, 'targets': '_proj$', 'weights': ''},
  'mapper': {'whiten': True, 'weights': ''},
  'init': {'from_run': ''},
  'decoder': {'attention': 'auto'},
  'contrastive': {
    'width': 64,
    'layers': 1,
    'heads': 4,
    'dim': 64,
    'text_encoder': '',
    'max_text_tokens': 96,
    'head': 'own',
    'lora_rank': 0,
    'lora_targets': '_proj$',
    'batch_size': 128,
    'epochs': 6.0,
    'block': 1024,
    'frozen': (),
    'optimizer': {
      'name': 'adamw',
      'learning_rate': 2e-3,
      'learning_rate_rules': (),
      'warmup_fraction': 0.1,
      'final_fraction': 0.02,
      'b1': 0.9,
      'b2': 0.98,
      'weight_decay': 0.1,
      'clip_norm': 1.0,
    },
  },  # fmt: skip
  'training': {
    'frozen': (),
    'row_tokens': 0,
    'accumulate': 1,
    'keep': 2,
    'keep_every': 0,
    'watchdog': 900.0,
    'profile_at': 0,
    'profile_updates': 5,
  },
}
LATER_OF_PRETRAINED = LATER['decoder'] | {'quantize': '', 'quantize_tile': 64}


def recorded_config(workdir: str | Path) -> ml_collections.ConfigDict:
  """The locked config of the run in `workdir`; lists come back as tuples.

  What the run's version did not know yet is filled in with what it did.

  Raises:
    FileNotFoundError: there is none.
  """
  path = as_path(workdir) / CONFIG_FILE
  if not path.is_file():
    raise FileNotFoundError(f'{workdir} is not the folder of a run: it has no {CONFIG_FILE}')
  return ml_collections.ConfigDict(completed(_with_tuples(json.loads(path.read_text())))).lock()


def completed(config: dict[str, Any]) -> dict[str, Any]:
  """The config with the settings that came later. One that has no L, as that of pretraining, stays as it is."""
  if 'decoder' not in config:
    return config
  config = {'mesh_across': (-1, 1, 1)} | config
  later = LATER | ({'decoder': LATER_OF_PRETRAINED} if config['decoder'].get('weights') else {})
  return config | {group: values | config.get(group, {}) for group, values in later.items()}


def _with_tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _with_tuples(v) for k, v in value.items()}
  return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value
