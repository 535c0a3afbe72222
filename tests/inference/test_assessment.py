"""What a clip is told depends on that clip and on the views that may be seen, and on nothing else in the batch."""

import jax
import numpy as np
import pytest

from crosstrainer_jax.configs import compact
from crosstrainer_jax.inference import assessment
from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.input.tokenizer import train_tokenizer
from crosstrainer_jax.training import sharding, stages

VIEWS, SECONDS, DIM, HIDDEN, NEW = 2, 2, 6, 16, 12
SPORTS = ['soccer', 'golf', 'fitness', 'soccer', 'golf']


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  texts = [prompts.attribute_prompt('soccer'), prompts.feedback_prompt('golf', ['balance']), ' timing, balance. ' * 9]
  return train_tokenizer([text.replace(prompts.VIDEO, '') for text in texts], 300, tmp_path_factory.mktemp('words'))


@pytest.fixture(scope='module')
def assessor(words):
  config = compact.preset()
  config.decoder.update(
    hidden_size=HIDDEN, intermediate_size=16, num_layers=1, num_heads=4, num_kv_heads=4, head_dim=8, max_position=240,
    tie_embeddings=False,
  )  # fmt: skip
  mesh = sharding.make_mesh((1, 2, 1), jax.devices()[:2])
  video_id = words.convert_tokens_to_ids(prompts.VIDEO)
  blueprint, params = stages.build(config, len(words), DIM, video_id, 0, mesh)

  # Attention that is sharp and weighs much, lest the text be the same whatever is seen, as an untrained model's is.
  def sharpen(path, leaf):
    name = jax.tree_util.keystr(path)
    return leaf * next((factor for part, factor in {'q_proj': 4, 'k_proj': 4, 'o_proj': 20}.items() if part in name), 1)

  params = jax.tree_util.tree_map_with_path(sharpen, params)
  encoder = examples.PromptTokenizer(words, VIEWS * SECONDS, 3)
  return Assessor(blueprint, params, encoder, mesh, batch_size=4)


def video(clips: int = 5) -> dict[str, np.ndarray]:
  random = np.random.default_rng(0)
  return {'features': random.normal(size=(clips, VIEWS, SECONDS, DIM)).astype(np.float16)}


def whole(clips: int = 5) -> np.ndarray:
  return np.ones((clips, VIEWS, SECONDS), bool)


def part(indices: list[int]) -> tuple[list[str], dict[str, np.ndarray], np.ndarray]:
  return [SPORTS[i] for i in indices], {'features': video()['features'][indices]}, whole()[indices]


@pytest.fixture(scope='module')
def texts(assessor):
  """Feedback without attributes for all clips, in two batches."""
  return assessor.feedback(SPORTS, None, video(), whole(), NEW)


def test_every_clip_gets_a_text_of_its_own(texts):
  assert len(texts) == 5
  assert all(text == text.strip() for text in texts)
  assert len(set(texts)) >= 4


@pytest.mark.parametrize('indices', [[1], [4, 0], [3, 2, 1, 0]])
def test_the_others_in_a_batch_change_nothing(assessor, texts, indices):
  sports, seen, valid = part(indices)
  assert assessor.feedback(sports, None, seen, valid, NEW) == [texts[i] for i in indices]


def test_attributes_are_parsed_lists_that_do_not_depend_on_the_batch(assessor):
  listed = assessor.attributes(SPORTS, video(), whole(), NEW)
  assert len(listed) == 5
  assert any(listed)
  for names in listed:
    assert prompts.parse_attributes(', '.join(names)) == names
  for i in (2, 4):
    assert assessor.attributes(*part([i]), NEW) == [listed[i]]


def test_ids_end_with_the_end_token_unless_they_are_cut(assessor, words):
  encoder = assessor._encoder
  rows = [encoder.prompt(examples.DIRECT, sport) for sport in SPORTS]
  before = assessor.cut
  written = assessor.write(rows, video(), whole(), NEW)
  cut = [ids[-1] not in encoder.ends for ids in written]
  assert assessor.cut - before == sum(cut)
  for ids, is_cut in zip(written, cut, strict=True):
    assert not set(ids[:-1]) & set(encoder.ends)
    assert len(ids) == NEW or not is_cut
  assert [assessor.text(ids).strip() for ids in written] == assessor.feedback(SPORTS, None, video(), whole(), NEW)


def test_feedback_reads_the_attributes_that_it_is_given(assessor):
  given = [['balance'], ['timing'], [], ['balance', 'timing'], ['knee bend']]
  texts = assessor.feedback(SPORTS, given, video(), whole(), NEW)
  assert texts != assessor.feedback(SPORTS, [['head position']] * 5, video(), whole(), NEW)
  sports, seen, valid = part([1, 3])
  assert assessor.feedback(sports, [given[1], given[3]], seen, valid, NEW) == [texts[1], texts[3]]


def test_what_must_not_be_seen_is_not_seen(assessor, texts):
  valid = whole()
  valid[:, 1], valid[2, 0, 1] = False, False
  hidden = {'features': np.where(valid[..., None], video()['features'], np.float16(7))}
  one, other = (assessor.feedback(SPORTS, None, shown, valid, NEW) for shown in (video(), hidden))
  assert one == other
  assert one != texts
  np.testing.assert_array_equal(assessor.pooled(video(), valid), assessor.pooled(hidden, valid))


def test_both_passes_from_one_look_write_what_they_write_apart(assessor):
  """Names of sports of different lengths and hidden tokens included; and in batches of which the last is not full."""
  valid = whole()
  valid[1, 0], valid[3, :, 1] = False, False
  listed = assessor.attributes(SPORTS, video(), valid, NEW)
  apart = listed, assessor.feedback(SPORTS, listed, video(), valid, NEW)
  done = []
  assert assessor.two_passes(SPORTS, video(), valid, NEW, NEW, done.append) == apart
  assert done == [4, 1]
  assert len(set(apart[1])) >= 4


def test_a_look_of_another_model_is_refused(assessor, words):
  looks = assessor.look(SPORTS, video(), whole())
  assert [len(look.lengths) for look in looks] == [4, 1]
  other = Assessor(
    assessor._blueprint, jax.tree.map(lambda leaf: leaf, assessor.params), assessor._encoder, assessor._mesh, 4
  )
  with pytest.raises(ValueError, match='looked at by a model with other weights'):
    other.attributes(SPORTS, video(), whole(), NEW, looks)


def test_clips_may_be_read_slice_by_slice(assessor, texts):
  read = []

  def some(part: slice) -> dict[str, np.ndarray]:
    read.append(part.stop - part.start)
    return {'features': video()['features'][part]}

  assert assessor.feedback(SPORTS, None, some, whole(), NEW) == texts
  np.testing.assert_array_equal(assessor.pooled(some, whole()), assessor.pooled(video(), whole()))
  assert max(read) == 4


def test_prompts_of_many_lengths_are_compiled_for_few(assessor):
  rows = [list(range(5, 5 + length)) for length in (1, 15, 16, 17, 30, 90, 130)]
  none = np.zeros((1, 0), bool)
  shapes = [assessor._prompts([row], none)['tokens'].shape for row in rows]
  assert shapes == [(1, 16)] * 3 + [(1, 32)] * 2 + [(1, 96), (1, 160)]
  together = assessor._prompts(rows, np.zeros((7, 0), bool))
  assert together['segment_ids'].sum(1).tolist() == [1, 15, 16, 17, 30, 90, 130]


def test_the_level_does_not_depend_on_the_order_of_views(assessor):
  valid = whole()
  valid[1, 0], valid[2, 1, 1] = False, False
  swapped = {'features': video()['features'][:, ::-1]}
  np.testing.assert_allclose(assessor.pooled(swapped, valid[:, ::-1]), assessor.pooled(video(), valid), atol=1e-6)


def test_pooled_is_the_mean_of_the_tokens_that_are_seen(assessor):
  valid = whole()
  valid[1, 0], valid[3] = False, False
  pooled = assessor.pooled(video(), valid)
  assert (pooled.shape, pooled.dtype) == ((5, HIDDEN), np.float32)
  model = assessor._blueprint.merge(assessor.params)
  tokens = np.asarray(model.mapper(video()['features'].astype(np.float32)))
  for row in (0, 1, 2, 4):
    np.testing.assert_allclose(pooled[row], tokens[row][valid[row]].mean(0), rtol=1e-4, atol=1e-5)
  assert not pooled[3].any()


def test_probabilities_are_shares_of_the_sampled_lists(assessor):
  def sample(seed):
    return assessor.probabilities(SPORTS, video(), whole(), NEW, 8, 1.5, seed)

  rows = sample(0)
  assert len(rows) == 5
  for row in rows:
    assert row
    for share in row.values():
      assert 0 < share <= 1
      assert (share * 8) % 1 == 0
    # every list names something or is counted as empty
    assert sum(row.values()) >= 1
    assert list(row.values()) == sorted(row.values(), reverse=True)
  assert sample(0) == rows
  assert sample(1) != rows


def test_samples_that_do_not_fit_together_are_decoded_in_groups(assessor, monkeypatch):
  calls, slots = [], []
  generate = assessment.generate

  def spy(decoder, embeddings, *args, num_samples, **settings):
    calls.append(num_samples)
    slots.append(embeddings.shape[1] + NEW)
    return generate(decoder, embeddings, *args, num_samples=num_samples, **settings)

  monkeypatch.setattr(assessment, 'generate', spy)
  # At so low a temperature every sample is the greedy list.
  sampled = [(*part([0, 1, 2, 3]), NEW, 8, temperature, 0) for temperature in (1e-6, 2.0)]
  together = assessor.probabilities(*sampled[0])
  assert calls == [8]
  # of a slot of one layer, 4 heads of 8, keys and values in float32; two rows on each of two devices
  monkeypatch.setattr(assessment, 'SAMPLES_BYTES', 3 * 2 * 256 * slots[0])
  assert assessor.probabilities(*sampled[0]) == together
  assert calls[1:] == [3, 3, 3]
  # No group repeats another.
  assert all(len(row) > 3 for row in assessor.probabilities(*sampled[1]))


def test_a_list_counts_once_for_each_name(assessor, words, monkeypatch):
  lists = ['balance, timing', 'timing, timing', 'none', 'Timing. balance', '']
  ids = [words.encode(f' {text}', add_special_tokens=False) for text in lists]
  longest = max(map(len, ids))
  tokens = np.array([[*row, words.eos_token_id] + [words.pad_token_id] * (longest - len(row)) for row in ids])
  monkeypatch.setattr(assessor, '_generate', lambda *_: [(tokens, None)])
  (row,) = assessor.probabilities(['golf'], {}, whole(1), NEW, 5, 1.0, 0)
  assert row == {'timing': 0.4, 'none': 0.4, 'balance': 0.2, 'timing. balance': 0.2}


def test_nothing_in_nothing_out(assessor):
  nothing = ([], {'features': np.zeros((0, VIEWS, SECONDS, DIM), np.float16)}, whole(0))
  assert assessor.attributes(*nothing, NEW) == []
  assert assessor.feedback([], None, *nothing[1:], NEW) == []
  assert assessor.feedback([], [], *nothing[1:], NEW) == []
  assert assessor.probabilities(*nothing, NEW, 2, 1.0, 0) == []
  assert assessor.pooled(*nothing[1:]).shape == (0, HIDDEN)
