"""Qwen2.5-VL with LoRA as the re-ranker, from a directory of the hub: trained, asked, and read back."""

import dataclasses

import numpy as np
import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.retrieval import material as materials
from crosstrainer_jax.retrieval import rows
from crosstrainer_jax.retrieval.reranker import Reranker
from crosstrainer_jax.retrieval.weak import Triple
from crosstrainer_jax.weights import convert
from tests.inference import backbone
from tests.retrieval.test_reranker import pairs_of, whole_rows

# What `backbone.config_on` makes small, and what is the re-ranker's own.
OVERRIDES = (
  'encoder.fps=4', 'encoder.size=16', 'encoder.dtype=', 'decoder.dtype=float32', 'decoder.param_dtype=float32',
  'decoder.remat=none', 'decoder.max_position=1024', 'training.row_tokens=1024', 'lora.rank=4', 'rerank.batch_size=8',
  'rerank.epochs=2.0', 'training.optimizer.learning_rate=0.01',
)  # fmt: skip


@pytest.fixture(scope='module')
def material(retrieved, tmp_path_factory):
  folder = tmp_path_factory.mktemp('qwen')
  base = backbone.write_base(folder / 'base')
  config = settings.load_config(
    'configs/retrieval.py:qwen2_5_vl,dataset=learners,library=lessons',
    (*(f'{part}.weights={base}' for part in ('encoder', 'mapper', 'decoder')), *OVERRIDES),
  )
  (learners,), (library,) = (
    [path.parent for path in (retrieved / name).glob('*/dataset_info.json')] for name in ('learners', 'lessons')
  )
  return materials.open_material(config, folder / 'run', learners, library)


@pytest.fixture(scope='module')
def trained(material):
  learners, lessons = [f'learners{n}' for n in range(6)], [f'lessons{n}' for n in range(4)]
  triples = [
    Triple(learner, lesson, 'relevant' if (i + j) % 2 else 'hard negative')
    for i, learner in enumerate(learners)
    for j, lesson in enumerate(lessons)
  ]
  return rows.reranker(material, rows.RERANKED, triples, [])


def test_only_adapters_and_the_merger_learn(trained):
  before, after = (convert.flat(trained._blueprint.split(params)[0]) for params in (trained._initial, trained._params))
  assert all('lora' in path or path.startswith('mapper/') for path in after)
  moved = [path for path in after if np.abs(after[path][...] - before[path][...]).max() > 0]
  assert any(path.endswith('lora_b') for path in moved)


def test_a_shared_beginning_changes_no_score(trained, material):
  clips = material.clips
  learners, candidates = material.learners_test[:2], material.library_test[:4]  # as many pairs as devices
  found = np.concatenate(trained.scores([trained.learner(i) for i in learners], [candidates] * 2))
  assert len(np.unique(found.round(6))) > 4
  expected = whole_rows(trained, trained._setting, pairs_of(clips, learners, candidates))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_it_is_read_back(trained, material):
  again = Reranker(dataclasses.replace(trained._setting), rows.RERANKED)
  again.load()
  asked = [again.learner(material.learners_test[0])], [material.library_test[:3]]
  np.testing.assert_allclose(again.scores(*asked)[0], trained.scores(*asked)[0], rtol=1e-5)
