"""The re-ranker: it learns a planted relation, and shares the learner's part between candidates."""

import dataclasses

import jax
import numpy as np
import pytest

from crosstrainer_jax.configs import retrieval as config_of
from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.tokenizer import train_tokenizer
from crosstrainer_jax.retrieval.relevance import ANSWERS, PHRASES, Pairs, RelevanceUpdates, Shown
from crosstrainer_jax.retrieval.reranker import Reranker
from crosstrainer_jax.training import sharding


@pytest.fixture(scope='module')
def words(tmp_path_factory, retrieval_setting):
  clips = retrieval_setting(tmp_path_factory.mktemp('none')).clips
  texts = [*ANSWERS, *(clip.commentary for clip in clips)]
  return PromptTokenizer(train_tokenizer(texts, 320, tmp_path_factory.mktemp('words') / 'tokenizer', PHRASES), 1, 3)


@pytest.fixture(scope='module')
def open_reranker(words, retrieval_setting):
  """Makes one in a folder. 90 clips train, as learners and as candidates."""
  config = config_of.get_config('smoke')
  config.decoder.update(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16)
  config.rerank.update(epochs=12.0, batch_size=32)
  config.training.optimizer.learning_rate = 1e-2

  def make(folder, devices=1, answer='yes/no', **changes):
    setting = retrieval_setting(folder)
    mesh = sharding.make_mesh(devices=jax.devices()[:devices])
    own = config.copy_and_resolve_references()
    own.rerank.answer = answer
    return Reranker(dataclasses.replace(setting, words=words, config=own, mesh=mesh, seconds=1), 'test', **changes)

  return make


def pairs_of(clips, learners, candidates):
  """All pairs: relevant is a candidate that has the learner's faults."""
  both = [(a, b) for a in learners for b in candidates if a != b]
  relevant = [bool(set(clips[a].incorrect) & set(clips[b].incorrect)) for a, b in both]
  shared = [sorted(set(clips[a].incorrect) & set(clips[b].incorrect)) for a, b in both]
  return Pairs(*np.array(both, np.int32).T, np.array(relevant), shared)


def some(pairs, count):
  chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
  return Pairs(
    pairs.learners[chosen], pairs.candidates[chosen], pairs.relevant[chosen], [pairs.shared[n] for n in chosen]
  )


@pytest.fixture(scope='module')
def trained(open_reranker, retrieval_setting, tmp_path_factory):
  """(folder, trained)"""
  folder = tmp_path_factory.mktemp('trained')
  model, clips = open_reranker(folder), retrieval_setting(folder).clips
  pairs = pairs_of(clips, range(60), range(60, 90))
  model.fit(some(pairs, 320), None)
  return folder, model


def better_than_lot(model, clips, learners):
  """How often a relevant candidate has the higher score of two; 0.5 by lot."""
  scores = model.scores([model.learner(i) for i in learners], [list(range(60, 90))] * len(learners))
  right = [[bool(set(clips[i].incorrect) & set(clips[j].incorrect)) for j in range(60, 90)] for i in learners]
  better = [
    np.mean(found[mask][:, None] > found[~mask][None])
    for found, mask in zip(scores, np.array(right), strict=True)
    if mask.any() and not mask.all()
  ]
  return np.mean(better)


def test_a_planted_relation_is_learnt(trained, retrieval_setting):
  folder, model = trained
  clips = retrieval_setting(folder).clips
  assert better_than_lot(model, clips, [i for i in range(120, 180) if clips[i].incorrect]) > 0.8


def test_attributes_are_learnt_before_and_named(open_reranker, retrieval_setting, tmp_path):
  model, clips = open_reranker(tmp_path, answer='attributes'), retrieval_setting(tmp_path).clips
  pairs = some(pairs_of(clips, range(60), range(60, 90)), 320)
  model.fit(pairs, None, {index: clips[index].incorrect for index in range(60)})
  assert (tmp_path / 'attributes' / 'done.json').is_file()
  learners = [i for i in range(120, 180) if clips[i].incorrect]
  assert better_than_lot(model, clips, learners) > 0.8


def test_what_is_computed_together_is_what_is_computed_alone(trained):
  _, model = trained
  learners, candidates = [model.learner(i) for i in (120, 121, 122)], [[60, 61, 62, 63, 64], [70], []]
  together = model.scores(learners, candidates)
  assert [len(row) for row in together] == [5, 1, 0]
  for learner, own, found in zip(learners, candidates, together, strict=True):
    alone = [model.scores([learner], [[candidate]])[0][0] for candidate in own]
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def whole_rows(model, setting, pairs):
  """The scores of pairs, as training computes them: both clips in one row, no cache."""
  words = setting.words
  shown = Shown(setting.video, setting.valid(range(len(setting.clips))))
  sports, narrations = ([getattr(clip, name) for clip in setting.clips] for name in ('sport', 'commentary'))
  updates = RelevanceUpdates(pairs, model._question, words, shown, sports, narrations, len(pairs), 0, 1)
  order = np.random.default_rng([0, 0]).permutation(len(pairs))
  whole = model._blueprint.merge(model._params)
  states = whole.target_states({name: jax.numpy.asarray(part) for name, part in updates(0).items()}, True)[:, 0]
  logits = np.asarray(whole.decoder.logits(states))
  found = np.empty(len(pairs))
  found[order] = logits[:, model._question.yes] - logits[:, model._question.no]
  return found


def test_a_shared_beginning_changes_no_score(trained, retrieval_setting):
  folder, model = trained
  pairs = pairs_of(retrieval_setting(folder).clips, range(120, 124), range(60, 63))
  found = np.concatenate(model.scores([model.learner(i) for i in range(120, 124)], [list(range(60, 63))] * 4))
  np.testing.assert_allclose(found, whole_rows(model, model._setting, pairs), rtol=1e-4, atol=1e-4)


def test_nothing_to_rank_is_no_score(trained):
  _, model = trained
  assert [len(row) for row in model.scores([model.learner(120)], [[]])] == [0]
  assert model.scores([], []) == []


def test_it_is_read_back(trained, open_reranker):
  folder, model = trained
  again = open_reranker(folder)
  again.load()
  asked = [[model.learner(130)], [[60, 61, 62]]]
  np.testing.assert_array_equal(model.scores(*asked)[0], again.scores(*asked)[0])
  before = open_reranker(folder)
  before.fit(Pairs(*np.zeros((2, 1), np.int32), np.ones(1, bool), [[]]), None)  # done before
  np.testing.assert_array_equal(before.scores(*asked)[0], again.scores(*asked)[0])


def test_what_is_not_trained_is_told(open_reranker, tmp_path):
  with pytest.raises(FileNotFoundError, match='not trained'):
    open_reranker(tmp_path).load()


def test_a_hidden_learner_changes_nothing(open_reranker, tmp_path):
  model = open_reranker(tmp_path, blind=True)
  one, other = model.scores([model.learner(120), model.learner(125)], [[60, 61, 62]] * 2)
  np.testing.assert_allclose(one, other, rtol=1e-5)


def test_devices_change_no_score(trained, open_reranker):
  folder, model = trained
  wide = open_reranker(folder, devices=4)
  wide.load()
  asked = [[model.learner(i) for i in range(120, 126)], [[60, 61, 62]] * 6]
  for one, other in zip(model.scores(*asked), wide.scores(*asked), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
