"""What update k holds depends on k, seed and batch size: not on hosts, threads, workers or where a run began."""

import collections
import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from absl import flags

from crosstrainer_jax.input import examples, pipeline, prompts
from crosstrainer_jax.input.packing import Sizes
from crosstrainer_jax.input.pipeline import Stage, Task
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import train_tokenizer

VIEWS, SECONDS, BATCH = 2, 2, 4
ATTRIBUTES, FEEDBACK = Task(examples.ATTRIBUTES, 1), Task(examples.FEEDBACK, 2)
SPORTS = ('soccer', 'golf')


def clip(number: int) -> ClipInfo:
  return ClipInfo(
    f'c{number}', SPORTS[number % 2], 'pass', f'p{number}', f't{number}', 'train', ['a'] * VIEWS, f'Comment {number}.',
    np.zeros((VIEWS, 4), np.float32), [], [f'fault {number}'], [], False, -1,
  )  # fmt: skip


CLIPS = [clip(number) for number in range(11)]


def video(index: int) -> dict[str, np.ndarray]:
  return {'features': np.full((VIEWS, SECONDS, 3), index, np.float16)}


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  return train_tokenizer([f' fault Comment {number}.' for number in range(11)], 280, tmp_path_factory.mktemp('words'))


@pytest.fixture
def stage(words):
  def make(tasks=(FEEDBACK, ATTRIBUTES), train=range(1, 11), view_dropout=0.5):
    encoder = examples.PromptTokenizer(words, VIEWS * SECONDS, 3)
    return Stage(CLIPS, list(train), tasks, encoder, view_dropout, SECONDS)

  return make


def take(wanted, stage, state=None, workers=0, threads=1, prefetch=4, **options):
  updates = pipeline.Updates(stage, video, **({'batch_size': BATCH, 'seed': 0, 'count': 60} | options))
  iterator = pipeline.Batches(updates, workers, threads, prefetch)
  if state is not None:
    iterator.set_state(state)
  batches = list(itertools.islice(iterator, wanted))
  states = iterator.get_state()
  iterator.close()
  return batches, states


def assert_same(one, other):
  assert one.keys() == other.keys()
  for name in one:
    assert one[name].dtype == other[name].dtype
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def clips_of(batches):
  """The clips in the order of rows; clip 0 does not train."""
  return [int(i) for batch in batches for i in batch['features'][:, :, 0, 0, 0].reshape(-1) if i]


def share(host, hosts):
  """The rows of one host of several."""
  return lambda rows: range(host * rows // hosts, (host + 1) * rows // hosts)


@pytest.mark.parametrize('row_tokens', [0, 256])
@pytest.mark.parametrize('hosts', [2, 4])
def test_any_number_of_hosts_sees_the_same_batches(stage, hosts, row_tokens):
  settings = {'multiple': 4, 'row_tokens': row_tokens}
  whole, _ = take(7, stage(), **settings)
  parts = [take(7, stage(), own_rows=share(host, hosts), **settings)[0] for host in range(hosts)]
  for k, batch in enumerate(whole):
    together = {name: np.concatenate([part[k][name] for part in parts]) for name in batch}
    assert_same(together, batch)


def test_hosts_may_change_in_the_middle(stage):
  whole, _ = take(6, stage(), multiple=4)
  _, state = take(3, stage(), multiple=4, own_rows=share(1, 2))
  resumed, _ = take(3, stage(), state, multiple=4)
  for one, other in zip(resumed, whole[3:], strict=True):
    assert_same(one, other)


def test_the_state_is_one_integer_and_resumes_exactly(stage):
  whole, _ = take(9, stage())
  for done in (0, 1, 5):
    _, state = take(done, stage())
    assert state == {'next_update': done}
    resumed, _ = take(9 - done, stage(), json.loads(json.dumps(state)))
    for one, other in zip(resumed, whole[done:], strict=True):
      assert_same(one, other)


def test_a_checkpoint_of_before_counts_clips(stage):
  whole, _ = take(4, stage())
  resumed, state = take(1, stage(), {'global_next_index': 3 * BATCH})
  assert_same(resumed[0], whole[3])
  assert state == {'next_update': 4}


def test_a_stage_ends_with_its_last_update(stage):
  batches, state = take(None, stage(), count=3, prefetch=16)
  assert len(batches) == state['next_update'] == 3
  assert take(None, stage(), state, count=3)[0] == []


def test_threads_change_nothing(stage):
  for one, other in zip(take(8, stage())[0], take(8, stage(), threads=4)[0], strict=True):
    assert_same(one, other)


def test_reader_processes_change_nothing(stage):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['test'])  # as the verbs do; Grain's processes read them
  for one, other in zip(take(5, stage())[0], take(5, stage(), workers=2)[0], strict=True):
    assert_same(one, other)


def test_running_further_ahead_changes_nothing(stage):
  whole, state = take(8, stage(), prefetch=1)
  further, same_state = take(8, stage(), prefetch=16)
  for one, other in zip(whole, further, strict=True):
    assert_same(one, other)
  assert state == same_state


def test_every_epoch_shows_each_clip_once_in_a_new_order(stage):
  # 10 clips and batches of 5, so that an epoch is two batches
  batches, _ = take(6, stage(), batch_size=5)
  epochs = [clips_of(batches[i : i + 2]) for i in (0, 2, 4)]
  assert all(sorted(epoch) == list(range(1, 11)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  assert clips_of(take(2, stage(), batch_size=5, seed=1)[0]) != epochs[0]


def test_fewer_clips_than_rows_are_repeated(stage):
  batches, _ = take(3, stage(train=[2, 5]))
  assert collections.Counter(clips_of(batches)) == {2: 6, 5: 6}


def test_a_batch_is_of_one_task_and_tasks_come_in_proportion(stage, words):
  batches, _ = take(9, stage())
  tasks = []
  for batch in batches:
    answers = [
      words.decode(ids[weights > 0].tolist(), skip_special_tokens=True)
      for ids, weights in zip(batch['target_ids'], batch['target_weights'], strict=True)
    ]
    comments = [answer.startswith(' Comment') for answer in answers]
    assert len(set(comments)) == 1
    tasks.append('feedback' if comments[0] else 'attributes')
    expected = ' Comment {}.' if comments[0] else ' fault {}'
    assert answers == [expected.format(number) for number in clips_of([batch])]
  assert tasks == ['feedback', 'feedback', 'attributes'] * 3


def test_a_batch_has_the_shapes_that_its_clips_need(stage):
  made = stage()
  sizes = {task.name: made.sizes(task) for task in made.tasks}
  order = pipeline.Order(sizes, BATCH, 0)
  batches, _ = take(3, made, multiple=3)
  for number, (batch, task) in enumerate(zip(batches, (FEEDBACK, FEEDBACK, ATTRIBUTES), strict=True)):
    needed = order.needed(number, task.name)
    # four clips and two rows that fill the multiple
    for name in ('tokens', 'segment_ids', 'positions', 'video_slots'):
      assert batch[name].shape == (6, examples.bucket(int(needed.tokens.max())))
    for name in ('target_slots', 'target_ids', 'target_weights'):
      assert batch[name].shape == (6, examples.bucket(int(needed.targets.max())))
    assert batch['features'].shape == (6, 1, VIEWS, SECONDS, 3)
    assert not batch['segment_ids'][4:].any()
    assert not batch['target_weights'][4:].any()
    used = (batch['segment_ids'] > 0).sum(1)[:4]
    assert (used <= needed.tokens).all()
    np.testing.assert_array_equal(batch['target_weights'].sum(1)[:4], needed.targets)


def test_views_without_frames_need_no_room(stage):
  made = stage(view_dropout=0.0)
  whole = made.sizes(FEEDBACK).tokens
  times = np.array([[0.0] * 4, [np.nan] * 4], np.float32)
  one_view = [dataclasses.replace(clip, frame_times=times) for clip in CLIPS]
  np.testing.assert_array_equal(dataclasses.replace(made, clips=one_view).sizes(FEEDBACK).tokens, whole - SECONDS)


def examples_of(batch):
  """For each clip, what its part of a row says: its features, tokens, positions and targets."""
  found = {}
  for row in range(len(batch['tokens'])):
    weights = batch['target_weights'][row] > 0
    for segment in range(1, batch['segment_ids'][row].max() + 1):
      place = batch['segment_ids'][row] == segment
      mine = weights & place[batch['target_slots'][row]]
      clip = int(batch['features'][row, segment - 1, 0, 0, 0])
      slots = batch['target_slots'][row][mine] - np.flatnonzero(place)[0]
      video = batch['video_slots'][row][place] - (segment - 1) * VIEWS * SECONDS
      tokens = batch['tokens'][row][place]
      found[clip] = (tokens, batch['positions'][row][place], slots, batch['target_ids'][row][mine],
                     video[tokens == 3])  # fmt: skip
  return found


def test_clips_that_share_rows_are_what_they_are_in_rows_of_their_own(stage):
  # an update is a whole epoch, so that it is of the same clips, in whatever order
  alone, packed = (take(6, stage(view_dropout=0.0), batch_size=10, row_tokens=most)[0] for most in (0, 512))
  shapes = {tuple((name, value.shape) for name, value in batch.items()) for batch in packed}
  assert len(shapes) == 2  # one a task
  for one, other in zip(alone, packed, strict=True):
    assert len(other['tokens']) < len(one['tokens'])
    both = examples_of(one), examples_of(other)
    assert len(both[0]) == len(both[1]) == 10
    for clip, parts in both[0].items():
      for left, right in zip(parts, both[1][clip], strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(('count', 'batch'), [(64, 4), (50, 4), (50, 7), (3, 8)])
def test_every_epoch_is_a_permutation_wherever_batches_end(count, batch):
  tokens = np.random.default_rng(0).integers(20, 90, count)
  order = pipeline.Order({'a': Sizes(tokens, tokens // 2)}, batch, seed=0)
  stream = [order[place] for place in range(5 * count)]
  epochs = [tuple(stream[i : i + count]) for i in range(0, 5 * count, count)]
  assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
  # within one batch no order is needed
  assert len(set(epochs)) == 5 or count < batch


def test_clips_of_similar_length_share_a_batch():
  tokens = np.random.default_rng(0).integers(20, 100, 640)
  order = pipeline.Order({'a': Sizes(tokens, tokens // 2)}, 8, seed=0)
  first = [examples.bucket(int(order.needed(number, 'a').tokens.max())) for number in range(80)]
  padded = np.mean(first)
  anyhow = np.mean([examples.bucket(int(rows.max())) for rows in tokens.reshape(80, 8)])
  assert padded < tokens.mean() + 0.5 * (anyhow - tokens.mean())
  assert first != sorted(first)
  assert abs(np.corrcoef(np.arange(80), first)[0, 1]) < 0.3


def shown_attributes(stage, words, batches):
  """For each row, the attributes that its prompt names."""
  found = []
  for batch in batches:
    for row in batch['tokens']:
      found.append(words.decode(row.tolist(), skip_special_tokens=True).split('mistakes): ')[1].split('.')[0])
  return found


@pytest.mark.parametrize(('ratio', 'expected'), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_prompts_mix_true_and_predicted_attributes(stage, words, ratio, expected):
  predicted = {i: [f'guess {i}, which is rather long', 'another'] for i in range(1, 11)}
  made = stage((Task(examples.FEEDBACK, 1, predicted, ratio),), view_dropout=0.0)
  batches, _ = take(50, made)
  true = [text.startswith('fault') for text in shown_attributes(made, words, batches)]
  np.testing.assert_allclose(np.mean(true), expected, atol=0.12)


def test_without_predictions_the_true_attributes_are_shown(stage, words):
  batches, _ = take(2, stage((Task(examples.FEEDBACK, 1, {}, 0.0),)))
  assert shown_attributes(stage(), words, batches) == [f'fault {i}' for i in clips_of(batches)]


def test_an_invented_name_takes_the_place_of_the_sport(stage, words):
  made = dataclasses.replace(stage((FEEDBACK, ATTRIBUTES)), name_dropout=0.5)
  batches, _ = take(60, made)
  known, invented = 0, set()
  for batch in batches:
    for row in batch['tokens']:
      name = re.search(r'doing (.+?)\.', words.decode(row.tolist(), skip_special_tokens=True))[1]
      known += name in SPORTS
      invented |= {name} - set(SPORTS)
  assert 0.4 < known / (60 * BATCH) < 0.6
  assert len(invented) > 30
  assert invented <= set(prompts.invented_names())


def test_views_are_dropped_anew_each_time(stage):
  def seen(batches):
    """Whether each video token of each clip is there: bool[N, V, S]."""
    return np.array([
      np.isin(np.arange(VIEWS * SECONDS), slots[tokens == 3]).reshape(VIEWS, SECONDS)
      for batch in batches
      for tokens, slots in zip(batch['tokens'], batch['video_slots'], strict=True)
    ])  # fmt: skip

  kept = seen(take(20, stage((ATTRIBUTES,)))[0])
  assert (kept.min(2) == kept.max(2)).all()
  assert kept[..., 0].any(1).all()
  patterns = collections.Counter(map(tuple, kept[..., 0].tolist()))
  assert set(patterns) == {(True, True), (True, False), (False, True)}
  assert seen(take(5, stage((ATTRIBUTES,), view_dropout=0.0))[0]).all()


def test_nothing_outside_the_training_part_is_read(stage):
  asked = set()

  def watched(index):
    asked.add(index)
    return video(index)

  iterator = pipeline.Batches(pipeline.Updates(stage(train=[3, 4, 7]), watched, BATCH, 0, 4))
  for _ in range(4):
    next(iterator)
  iterator.close()
  assert asked == {3, 4, 7}
