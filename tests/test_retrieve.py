"""The verb, from two datasets and ratings to its report."""

import json

import numpy as np
import pytest

from crosstrainer_jax import retrieve, settings
from crosstrainer_jax.input.record import Clip

SMALL = ('retrieve.resamples=20', 'contrastive.epochs=1.0', 'contrastive.batch_size=8', 'contrastive.width=16',
         'contrastive.dim=16', 'tokenizer.vocab_size=300')  # fmt: skip
ROWS = ('random', 'sport and skill', 'visual nearest neighbour')


@pytest.fixture(scope='module')
def data(tmp_path_factory, write_dataset):
  """A data folder with learners and a library."""
  rng = np.random.default_rng(0)
  folder = tmp_path_factory.mktemp('data')

  def clip(dataset, number, said):
    person, take = f'{dataset} {number // 3}', f'{dataset} take {number // 3}'
    return Clip(
      f'{dataset}{number}', dataset, 'soccer', 'kick', person, take, ['main'],
      frames=rng.integers(0, 255, (1, 8, 64, 64, 3)).astype(np.uint8),
      frame_times=np.arange(8, dtype=np.float32)[None] / 4, commentary=said, commentary_time=1.0,
    )  # fmt: skip

  for name, said in (('learners', 'Your knees are too straight.'), ('lessons', 'Bend your knees and sink.')):
    pools = {'train': range(9), 'test': range(9, 18)}
    made = write_dataset(
      folder / 'made', {pool: [clip(name, n, f'{said} Take {n}.') for n in numbers] for pool, numbers in pools.items()}
    )
    made.parent.rename(folder / name)
  return folder


def test_learners_and_a_library_become_a_report(data, tmp_path):
  file = tmp_path / 'ratings.jsonl'
  pairs = [('learners9', 'lessons10', 3), ('learners9', 'lessons11', 0), ('learners12', 'lessons13', 2)]
  lines = [{'clip_id': a, 'candidate': b, 'rating': r, 'rater': 'ann'} for a, b, r in pairs]
  file.write_text('\n'.join(map(json.dumps, lines)))
  config = settings.load_config(
    'configs/retrieval.py:dataset=learners,library=lessons', (*SMALL, f'retrieve.ratings={file}')
  )
  config = config.copy_and_resolve_references().unlock()
  config.retrieve.rows = ROWS
  made = retrieve.run(config.lock(), tmp_path / 'run', data)
  assert list(made.rows) == list(ROWS)
  assert made.rows['random']['R@5'].n_clips == 2
  assert '2 learners’ clips' in made.facts[0]
  assert not made.differences  # of rows that are trained
  triples = [json.loads(line) for line in (tmp_path / 'run' / 'triples.jsonl').read_text().splitlines()]
  assert {triple['relevant'] for triple in triples} == {True}
  assert {triple['clip_id'] for triple in triples} <= {f'learners{n}' for n in range(9)}
  for suffix in ('md', 'json'):
    assert (tmp_path / 'run' / f'retrieval.{suffix}').is_file()


def test_what_cannot_be_is_told(data, tmp_path):
  config = settings.load_config('configs/retrieval.py:dataset=learners,library=lessons', SMALL)
  with pytest.raises(ValueError, match='name a file'):
    retrieve.run(config, tmp_path / 'run', data)
  config = config.copy_and_resolve_references().unlock()
  config.retrieve.rows = ('all',)
  with pytest.raises(ValueError, match='no row'):
    retrieve.run(config.lock(), tmp_path / 'other', data)


def test_a_plan_says_what_would_be_done(tmp_path):
  said = retrieve.plan(settings.load_config('configs/retrieval.py'), tmp_path / 'none')
  assert 'clips of howto for learners of skillsim' in said
