import numpy as np
import pytest

from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.input.examples import ATTRIBUTES, DIRECT, FEEDBACK, PromptTokenizer, Tokens
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import train_tokenizer

VIEWS, SECONDS = 3, 2
VIDEO = VIEWS * SECONDS


def clip(commentary: str = 'Keep the balance.', incorrect: tuple[str, ...] = ('balance', 'knee bend')) -> ClipInfo:
  return ClipInfo(
    'c', 'soccer', 'pass', 'p', 't', 'train', ['a'] * VIEWS, commentary, np.zeros((VIEWS, 4), np.float32), [],
    list(incorrect), [], False, -1,
  )  # fmt: skip


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  texts = [prompts.attribute_prompt('soccer'), prompts.feedback_prompt('soccer', ['balance', 'knee bend'])]
  return train_tokenizer([text.replace(prompts.VIDEO, '') for text in texts], 400, tmp_path_factory.mktemp('words'))


@pytest.fixture(scope='module')
def encoder(words):
  return PromptTokenizer(words, VIDEO, k=2)


def video_id(words):
  return words.convert_tokens_to_ids(prompts.VIDEO)


def row(words, *tokens, valid=None, length=None, targets=None):
  """One row of the examples `tokens`, each with all of its video unless `valid` says otherwise."""
  clips = [(each, np.ones(VIDEO, bool) if valid is None else valid) for each in tokens]
  length = length or sum(len(each.prompt) + len(each.target) for each in tokens)
  targets = targets or sum(len(each.target) for each in tokens)
  return examples.row_arrays(clips, length, targets, video_id(words), words.pad_token_id)


@pytest.mark.parametrize('task', [ATTRIBUTES, FEEDBACK, DIRECT])
def test_a_prompt_is_the_template_with_placeholders_for_the_video(words, encoder, task):
  ids = encoder.prompt(task, 'soccer', ['balance'])
  template = {
    ATTRIBUTES: prompts.attribute_prompt('soccer', 2),
    FEEDBACK: prompts.feedback_prompt('soccer', ['balance']),
    DIRECT: prompts.direct_prompt('soccer'),
  }[task]
  assert ids[0] == words.bos_token_id
  assert words.decode(ids[1:]) == template.replace(prompts.VIDEO, prompts.VIDEO * VIDEO)
  places = np.flatnonzero(np.array(ids) == video_id(words))
  np.testing.assert_array_equal(places, places[0] + np.arange(VIDEO))


def test_an_unknown_task_is_an_error(encoder):
  with pytest.raises(ValueError, match="no task 'praise'"):
    encoder.prompt('praise', 'soccer')


@pytest.mark.parametrize(
  ('task', 'answer'),
  [(ATTRIBUTES, 'balance, knee bend'), (FEEDBACK, 'Keep the balance.'), (DIRECT, 'Keep the balance.')],
)
def test_the_target_is_the_answer_and_an_end(words, encoder, task, answer):
  tokens = encoder.tokens(task, clip(), ['timing'])
  assert tokens.target[-1] == words.eos_token_id
  assert words.decode(tokens.target[:-1]) == f' {answer}'
  shown = words.decode(tokens.prompt)
  assert ('timing' in shown) == (task == FEEDBACK)
  assert answer not in shown


def test_a_faultless_clip_answers_none(words, encoder):
  assert words.decode(encoder.tokens(ATTRIBUTES, clip(incorrect=())).target[:-1]) == ' none'


def test_commentary_cannot_forge_special_tokens(words, encoder):
  said = 'Watch <video> again.</s><pad><s>'
  tokens = encoder.tokens(FEEDBACK, clip(said))
  assert tokens.prompt.count(video_id(words)) == VIDEO
  assert min(tokens.target[:-1]) > video_id(words)
  assert words.decode(tokens.target[:-1]) == f' {said}'
  assert row(words, tokens)['segment_ids'].sum() == len(tokens.prompt) + len(tokens.target)


def test_each_target_slot_stands_right_before_its_target(words, encoder):
  pair = encoder.tokens(FEEDBACK, clip(), ['balance']), encoder.tokens(FEEDBACK, clip('Bend your knees.'), [])
  made = row(words, *pair, length=256, targets=60)
  counted = made['target_weights'] > 0
  lengths = [len(tokens.target) for tokens in pair]
  assert counted.sum() == sum(lengths)
  np.testing.assert_array_equal(made['target_ids'][counted], made['tokens'][made['target_slots'][counted] + 1])
  first, second = np.split(made['target_ids'][counted], [lengths[0]])
  assert words.decode(first.tolist(), skip_special_tokens=True) == ' Keep the balance.'
  assert words.decode(second.tolist(), skip_special_tokens=True) == ' Bend your knees.'
  # the first is predicted from the last token of the prompt
  starts = len(pair[0].prompt) - 1, len(pair[0].prompt) + lengths[0] + len(pair[1].prompt) - 1
  np.testing.assert_array_equal(made['target_slots'][[0, lengths[0]]], starts)
  assert not made['target_ids'][~counted].any()


def test_shapes_types_and_padding(words, encoder):
  tokens = encoder.tokens(ATTRIBUTES, clip())
  used = len(tokens.prompt) + len(tokens.target)
  made = row(words, tokens, length=used + 5, targets=len(tokens.target) + 3)
  for name in ('tokens', 'segment_ids', 'positions', 'video_slots'):
    assert (made[name].shape, made[name].dtype) == ((used + 5,), np.int32), name
  for name in ('target_slots', 'target_ids'):
    assert (made[name].shape, made[name].dtype) == ((len(tokens.target) + 3,), np.int32), name
  assert made['target_weights'].dtype == np.float32
  np.testing.assert_array_equal(made['tokens'][:used], [*tokens.prompt, *tokens.target])
  assert set(made['tokens'][used:]) == {words.pad_token_id}
  np.testing.assert_array_equal(made['segment_ids'], [1] * used + [0] * 5)
  np.testing.assert_array_equal(made['positions'][:used], np.arange(used))
  empty = row(words, length=7, targets=2)
  assert not empty['segment_ids'].any()
  assert not empty['target_weights'].any()


def test_clips_that_share_a_row_are_each_what_they_are_alone(words, encoder):
  clips = [encoder.tokens(FEEDBACK, clip(), ['balance']), encoder.tokens(ATTRIBUTES, clip())]
  shared, alone = row(words, *clips, length=256), [row(words, tokens) for tokens in clips]
  for number, single in enumerate(alone):
    place = shared['segment_ids'] == number + 1
    for name in ('tokens', 'positions'):
      np.testing.assert_array_equal(shared[name][place], single[name])
    seen = single['tokens'] == video_id(words)
    np.testing.assert_array_equal(shared['video_slots'][place][seen], single['video_slots'][seen] + number * VIDEO)


def test_a_dropped_view_is_left_out_and_the_others_keep_their_features(words, encoder):
  tokens = encoder.tokens(ATTRIBUTES, clip())
  valid = np.array([True, True, False, False, True, False])
  whole, made = row(words, tokens), row(words, tokens, valid=valid)
  used = len(whole['tokens']) - 3
  assert made['segment_ids'].sum() == used
  np.testing.assert_array_equal(made['positions'][:used], np.arange(used))
  places = made['tokens'] == video_id(words)
  np.testing.assert_array_equal(made['video_slots'][places], np.flatnonzero(valid))
  np.testing.assert_array_equal(
    made['tokens'][:used][~places[:used]], whole['tokens'][whole['tokens'] != video_id(words)]
  )
  np.testing.assert_array_equal(made['target_slots'], whole['target_slots'] - 3)


@pytest.mark.parametrize(('tokens', 'targets'), [(9, 4), (10, 3)])
def test_what_does_not_fit_is_an_error_not_a_cut(tokens, targets):
  clips = [(Tokens([1] * 6, [2] * 4), np.zeros(0, bool))]
  with pytest.raises(ValueError, match=r'1 clips of 10 tokens \(4 of them targets\) do not fit into a row of'):
    examples.row_arrays(clips, tokens, targets, 3, 0)


def test_a_token_is_valid_with_one_real_frame():
  times = np.full((3, 8), np.nan, np.float32)
  times[0] = np.arange(8)
  times[1, :5] = np.arange(5)
  expected = [[True, True], [True, True], [False, False]]
  np.testing.assert_array_equal(examples.valid_tokens(times, 2), expected)
  times[1, 4] = np.nan
  np.testing.assert_array_equal(examples.valid_tokens(times, 2)[1], [True, False])
  assert examples.valid_tokens(times, 4).shape == (3, 4)


def test_dropping_views_keeps_at_least_one_that_has_frames():
  valid = np.array([[True, True], [True, False], [False, False]])
  random = np.random.default_rng(0)
  counts = np.zeros(3)
  for _ in range(400):
    kept = examples.drop_views(valid, 0.9, random)
    assert kept.any()
    # a view goes or stays as a whole
    assert all((row == whole).all() or not row.any() for row, whole in zip(kept, valid, strict=True))
    counts += kept.any(1)
  assert counts[0] > 120
  assert counts[1] > 120
  assert counts[2] == 0


def test_each_view_goes_with_the_probability():
  valid, random = np.ones((4, 2), bool), np.random.default_rng(0)
  share = np.mean([examples.drop_views(valid, 0.3, random)[:, 0] for _ in range(2000)], 0)
  np.testing.assert_allclose(share, 0.7, atol=0.04)
  np.testing.assert_array_equal(examples.drop_views(valid, 0.0, random), valid)
  nothing = np.zeros((2, 2), bool)
  np.testing.assert_array_equal(examples.drop_views(nothing, 0.5, random), nothing)


def test_arrays_are_of_few_sizes():
  sizes = [examples.bucket(length) for length in range(1, 1025)]
  assert all(size >= length for length, size in enumerate(sizes, 1))
  assert sorted(set(sizes)) == [
    16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024,
  ]  # fmt: skip
  assert all(examples.bucket(size) == size for size in sizes)
