"""A small finished run of the verb `retrieve`, for those who ask it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import ml_collections
import numpy as np

from crosstrainer_jax import retrieve, settings
from crosstrainer_jax.input.record import Clip

SMALL = (
  'retrieve.resamples=20', 'contrastive.epochs=1.0', 'contrastive.batch_size=8', 'contrastive.width=16',
  'contrastive.dim=16', 'tokenizer.vocab_size=300', 'decoder.hidden_size=32', 'decoder.intermediate_size=64',
  'decoder.num_layers=1', 'decoder.num_heads=2', 'decoder.num_kv_heads=1', 'decoder.head_dim=16', 'rerank.epochs=1.0',
  'rerank.batch_size=16',
)  # fmt: skip
POOLS = {'train': range(9), 'test': range(9, 18)}
# Of even and of odd clips.
SAID = {
  'learners': ('Your knees are too straight.', 'You are losing your balance.'),
  'lessons': ('Bend your knees and sink.', 'Keep your balance over the foot.'),
}


def clip(dataset: str, number: int) -> Clip:
  """One of a person's three clips of a take, of two seconds of noise; learners have two views."""
  rng = np.random.default_rng([number, len(dataset)])
  person, take = f'{dataset} {number // 3}', f'{dataset} take {number // 3}'
  views = ['main', 'side'] if dataset == 'learners' else ['main']
  return Clip(
    f'{dataset}{number}', dataset, 'judo' if number % 3 == 2 else 'soccer', 'kick', person, take, views,
    frames=rng.integers(0, 255, (len(views), 8, 64, 64, 3)).astype(np.uint8),
    frame_times=np.tile(np.arange(8, dtype=np.float32) / 4, (len(views), 1)),
    commentary=f'{SAID[dataset][number % 2]} Take {number}.', commentary_time=1.0,
    extra=json.dumps({'execution': 'incorrect', 'url': f'https://v.test/{number}'}),
  )  # fmt: skip


def small_config(folder: pathlib.Path) -> ml_collections.ConfigDict:
  """Of a run on the datasets in `folder`, which rates three of their pairs."""
  return settings.load_config(
    'configs/retrieval.py:dataset=learners,library=lessons', (*SMALL, f'retrieve.ratings={folder}/ratings.jsonl')
  )


def make(home: pathlib.Path, write_dataset: Callable[..., pathlib.Path]) -> None:
  """Writes the datasets, `ratings.jsonl` and the workdir `run` into a folder, where they are not there yet."""
  if (home / 'run' / 'retrieval.json').is_file():
    return
  for name in SAID:
    pools = {pool: [clip(name, n) for n in numbers] for pool, numbers in POOLS.items()}
    write_dataset(home / 'made', pools).parent.rename(home / name)
  pairs = [('learners9', 'lessons10', 3), ('learners9', 'lessons12', 0), ('learners12', 'lessons13', 2)]
  lines = [{'clip_id': a, 'candidate': b, 'rating': r, 'rater': 'ann'} for a, b, r in pairs]
  (home / 'ratings.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  retrieve.run(small_config(home), home / 'run', home)
