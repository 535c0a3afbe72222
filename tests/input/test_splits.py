"""The four settings by their definition, and no way for a person, a take, a skill or a sport to leak."""

import collections
import dataclasses
import re

import numpy as np
import pytest

from crosstrainer_jax.input import examples, pipeline, splits, tokenizer
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.splits import SPORT, Split, check_leaks, folds, make_split
from crosstrainer_jax.run import training_texts

SKILLS = {'soccer': ('pass', 'kick'), 'golf': ('drive', 'putt'), 'fitness': ('squat', 'kick')}
HELD_OUT = {'FS': '', 'ZS-1': 'golf/putt', 'ZS-2': 'golf/putt', 'ZS-3': 'golf'}


def info(number: int, sport: str, skill: str, person: str, pool: str = 'train', take: str = '') -> ClipInfo:
  times = np.zeros((1, 2), np.float32)
  comment, take = f'Comment {number}.', take or f'{person}-{sport}-{skill}'
  return ClipInfo(
    f'clip{number}', sport, skill, person, take, pool, ['a'], comment, times, [], [f'fault {number}'], [], False, -1
  )


def world(seed: int, people: int = 24, tested: int = 6) -> list[ClipInfo]:
  """Random clips; people do several sports, and the first `tested` of them are in the test pool."""
  random = np.random.default_rng(seed)
  clips = []
  for number in range(people * 20):
    person = int(random.integers(people))
    sport = str(random.choice(list(SKILLS)))
    pool = 'test' if person < tested else 'train'
    clips.append(info(number, sport, str(random.choice(SKILLS[sport])), f'p{person}', pool))
  return clips


def test_one_sport_trains_and_the_skills_of_others_are_tested():
  clips = world(0)
  split = make_split(clips, SPORT, source='golf')
  assert {clips[i].sport for i in (*split.train, *split.validation)} == {'golf'}
  assert {clips[i].sport for i in split.test} == {'soccer', 'fitness'}
  kick = make_split(clips, SPORT, 'soccer/kick', source='golf')
  assert {(clips[i].sport, clips[i].skill) for i in kick.test} == {('soccer', 'kick')}
  assert kick.train == split.train
  with pytest.raises(ValueError, match="source='tennis' is no sport"):
    make_split(clips, SPORT, source='tennis')
  with pytest.raises(ValueError, match="'putt' is no skill of the dataset outside golf"):
    make_split(clips, SPORT, 'putt', source='golf')
  learner = clips[split.train[0]].participant
  other = next(i for i, clip in enumerate(clips) if clip.participant == learner and clip.sport == 'soccer')
  leak = dataclasses.replace(split, train=[*split.train, other])
  with pytest.raises(ValueError, match='held-out .* is in training'):
    check_leaks(clips, leak, SPORT, '', 'golf')


def test_few_shot_trains_on_everything_but_the_test_people():
  clips = world(0)
  split = make_split(clips, 'FS')
  assert split.test == [i for i, clip in enumerate(clips) if clip.pool == 'test']
  assert sorted(split.train + split.validation) == [i for i, clip in enumerate(clips) if clip.pool == 'train']
  one = make_split(clips, 'FS', 'golf')
  assert one.test == [i for i in split.test if clips[i].sport == 'golf']
  assert (one.train, one.validation) == (split.train, split.validation)


@pytest.mark.parametrize(
  ('setting', 'held_out', 'trains', 'tests'),
  [
    ('ZS-1', 'golf/putt', lambda c: c.skill != 'putt', lambda c: c.skill == 'putt'),
    ('ZS-1', 'putt', lambda c: c.skill != 'putt', lambda c: c.skill == 'putt'),
    ('ZS-1', 'fitness/kick', lambda c: (c.sport, c.skill) != ('fitness', 'kick'), lambda c: c.sport == 'fitness'),
    ('ZS-2', 'golf/putt', lambda c: (c.sport, c.skill) == ('golf', 'drive'), lambda c: c.skill == 'putt'),
    ('ZS-3', 'golf', lambda c: c.sport != 'golf', lambda c: c.sport == 'golf'),
  ],
)
def test_zero_shot_by_definition(setting, held_out, trains, tests):
  clips = world(1)
  split = make_split(clips, setting, held_out)
  seen = [i for i, clip in enumerate(clips) if clip.pool == 'train' and trains(clip)]
  assert sorted(split.train + split.validation) == seen
  skill = held_out.split('/')[-1]
  unseen = [
    i for i, clip in enumerate(clips) if clip.pool == 'test' and tests(clip) and skill in (clip.skill, clip.sport)
  ]
  assert split.test == unseen


@pytest.mark.parametrize('setting', splits.SETTINGS)
def test_nothing_leaks_whatever_the_dataset(setting):
  for seed in range(40):
    # every third dataset has no test pool of its own
    clips = world(seed, people=12 + seed % 7, tested=(0, 3, 5)[seed % 3])
    split = make_split(clips, setting, HELD_OUT[setting], seed=seed)
    seen, unseen = ([clips[i] for i in part] for part in (split.train + split.validation, split.test))
    assert seen
    assert unseen
    for field in ('participant', 'take', 'clip_id'):
      assert not {getattr(c, field) for c in seen} & {getattr(c, field) for c in unseen}
    assert not {clips[i].participant for i in split.train} & {clips[i].participant for i in split.validation}
    if setting != 'FS':
      # here no skill of golf is a skill of another sport, so the names alone must be disjoint
      assert not {c.skill for c in seen} & {c.skill for c in unseen}
    if setting == 'ZS-3':
      assert not {c.sport for c in seen} & {c.sport for c in unseen}


def test_validation_is_a_share_of_the_people():
  clips = world(2, people=40, tested=10)
  split = make_split(clips, 'FS', validation_share=0.2)
  people = {clips[i].participant for i in split.train}, {clips[i].participant for i in split.validation}
  assert [len(part) for part in people] == [24, 6]
  assert make_split(clips, 'FS', validation_share=0.0).validation == []


def test_without_a_test_pool_a_fifth_of_the_people_tests():
  clips = world(3, people=20, tested=0)
  split = make_split(clips, 'FS')
  assert len({clips[i].participant for i in split.test}) == 4
  assert make_split(clips, 'FS', seed=1).test != split.test


def test_a_split_depends_on_its_arguments_alone():
  for setting in splits.SETTINGS:
    first = make_split(world(4), setting, HELD_OUT[setting], seed=3)
    assert make_split(world(4), setting, HELD_OUT[setting], seed=3) == first
  assert make_split(world(4), 'FS', seed=4) != make_split(world(4), 'FS', seed=3)


def test_messages_name_what_is_known():
  clips = world(5)
  with pytest.raises(ValueError, match=r"'ZS-4' is not one of .*'FS', 'ZS-1', 'ZS-2', 'ZS-3'"):
    make_split(clips, 'ZS-4')
  with pytest.raises(ValueError, match=r"'tennis' is no sport .* \['fitness', 'golf', 'soccer'\]"):
    make_split(clips, 'ZS-3', 'tennis')
  with pytest.raises(ValueError, match=r"'' is no sport"):
    make_split(clips, 'ZS-3')
  with pytest.raises(ValueError, match=r"'serve' is no skill .* \['drive', 'kick', 'pass', 'putt', 'squat'\]"):
    make_split(clips, 'ZS-1', 'serve')
  alone = [info(0, 'golf', 'putt', 'p0'), info(1, 'golf', 'putt', 'p1')]
  with pytest.raises(ValueError, match=r"leaves no clip to train: .* 2 people and skills \['golf/putt'\]"):
    make_split(alone, 'ZS-2', 'putt')
  with pytest.raises(ValueError, match='leaves no clip to test'):
    make_split([*alone, info(2, 'golf', 'drive', 'p2', 'test'), info(3, 'golf', 'drive', 'p3')], 'ZS-1', 'putt')


def planted(setting: str) -> tuple[list[ClipInfo], Split]:
  clips = world(6)
  return clips, make_split(clips, setting, HELD_OUT[setting])


@pytest.mark.parametrize('setting', splits.SETTINGS)
def test_a_planted_person_is_found(setting):
  clips, split = planted(setting)
  clips[split.train[0]].participant = clips[split.test[0]].participant
  with pytest.raises(ValueError, match=f'{setting}: participant .* in training and in test'):
    check_leaks(clips, split, setting, HELD_OUT[setting])


@pytest.mark.parametrize(('field', 'part'), [('take', 'train'), ('take', 'validation'), ('clip_id', 'train')])
def test_a_planted_take_is_found(field, part):
  clips, split = planted('FS')
  setattr(clips[getattr(split, part)[0]], field, getattr(clips[split.test[0]], field))
  with pytest.raises(ValueError, match=f'FS: {field} .* name people and takes uniquely'):
    check_leaks(clips, split, 'FS', '')


@pytest.mark.parametrize('setting', ['ZS-1', 'ZS-2', 'ZS-3'])
def test_a_planted_skill_is_found(setting):
  clips, split = planted(setting)
  clips[split.train[0]].sport, clips[split.train[0]].skill = 'golf', 'putt'
  with pytest.raises(ValueError, match=f'{setting}: held-out .*golf.*putt.* is in training'):
    check_leaks(clips, split, setting, HELD_OUT[setting])


def test_a_person_who_trains_and_validates_is_found():
  clips, split = planted('FS')
  wrong = dataclasses.replace(split, validation=[*split.validation, split.train[0]])
  with pytest.raises(ValueError, match='train and validate'):
    check_leaks(clips, wrong, 'FS', '')


def test_a_take_that_two_people_share_is_refused():
  clips = [info(0, 'golf', 'putt', 'p0', take='t'), info(1, 'golf', 'putt', 'p1', 'test', take='t')]
  with pytest.raises(ValueError, match=r"take \['t'\] is in training and in test"):
    make_split(clips, 'FS')


def test_folds_cut_by_person():
  clips = world(7)
  train = make_split(clips, 'FS').train
  parts = folds(clips, train, 3)
  assert sorted(i for part in parts for i in part) == train
  people = [{clips[i].participant for i in part} for part in parts]
  assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
  assert max(map(len, people)) - min(map(len, people)) <= 1
  assert folds(clips, train, 3) == parts
  assert folds(clips, train, 3, seed=1) != parts


@pytest.mark.parametrize(
  ('people', 'takes', 'field'), [(2, 4, 'take'), (1, 3, 'take'), (2, 2, 'clip_id'), (1, 1, 'clip_id')]
)
def test_with_too_few_people_folds_cut_by_take_and_with_too_few_takes_by_clip(people, takes, field):
  clips = [info(i, 'golf', 'putt', f'p{i % people}', take=f't{i % takes}') for i in range(8)]
  parts = folds(clips, range(8), 3)
  assert sorted(i for part in parts for i in part) == list(range(8))
  assert len(parts) == 3
  names = [{getattr(clips[i], field) for i in part} for part in parts]
  assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]


def test_there_are_never_more_folds_than_clips():
  clips = [info(i, 'golf', 'putt', 'p0', take='t') for i in range(2)]
  assert sorted(folds(clips, range(2), 3)) == [[0], [1]]
  assert folds(clips, [1], 2) == []


def test_whom_the_dataset_lets_validate_validates():
  clips = world(9)
  for clip in clips:
    if clip.participant in ('p10', 'p11'):
      clip.pool = 'validation'
  for setting, held_out in HELD_OUT.items():
    split = make_split(clips, setting, held_out, validation_share=0.5)
    assert {clips[i].participant for i in split.validation} == {'p10', 'p11'}


# --- What is learnt from: the tokenizer's text, and stage I's targets


def words_of(text: str) -> set[str]:
  return set(re.findall(r"[\w']+", text.lower()))


@pytest.fixture(scope='module')
def spoken() -> list[ClipInfo]:
  """Every clip says a word of its sport, one of its person and one of its own, in commentary and attributes."""
  clips = world(8)
  for clip in clips:
    own = f'{clip.sport}word {clip.participant}word {clip.clip_id}word'
    clip.commentary, clip.incorrect = f'Mind your {own}.', [f'{own} attribute']
  return clips


@pytest.mark.parametrize('setting', splits.SETTINGS)
def test_the_tokenizer_reads_no_held_out_text(spoken, setting):
  split = make_split(spoken, setting, HELD_OUT[setting])
  read = words_of(' '.join(training_texts(spoken, split.train)))
  trained = set().union(*(words_of(spoken[i].commentary) for i in split.train))
  assert trained <= read
  for part in (split.test, split.validation):
    only_there = set().union(*(words_of(spoken[i].commentary) for i in part)) - trained
    assert only_there
    assert not only_there & read
  if setting == 'ZS-3':
    assert 'golfword' not in read
    assert 'golf' not in read


def test_the_tokenizer_has_no_piece_for_a_held_out_word(spoken, tmp_path):
  split = make_split(spoken, 'ZS-3', 'golf')
  words = tokenizer.train_tokenizer(training_texts(spoken, split.train), 4096, tmp_path)
  assert len(words.encode(' soccerword', add_special_tokens=False)) == 1
  assert len(words.encode(' golfword', add_special_tokens=False)) > 1


@pytest.mark.parametrize('setting', splits.SETTINGS)
def test_stage_one_learns_attributes_of_its_training_part_alone(spoken, setting, tmp_path):
  split = make_split(spoken, setting, HELD_OUT[setting])
  words = tokenizer.train_tokenizer(training_texts(spoken, split.train), 512, tmp_path)
  task = pipeline.Task(examples.ATTRIBUTES, 1)
  stage = pipeline.Stage(spoken, split.train, [task], examples.PromptTokenizer(words, 1, 3), 0.0, 1)
  features = {'features': np.zeros((1, 1, 2), np.float16)}
  count = -(-len(split.train) // 8)
  updates = pipeline.Updates(stage, lambda index: features, 8, 0, count)
  learnt: collections.Counter[str] = collections.Counter()
  for number in range(count):
    batch = updates(number)
    for ids, weights in zip(batch['target_ids'], batch['target_weights'], strict=True):
      learnt[words.decode(ids[weights > 0].tolist(), skip_special_tokens=True).strip()] += 1
  assert set(learnt) == {spoken[i].incorrect[0] for i in split.train}


def test_fit_measures_on_the_clips_that_it_trains_on():
  clips = world(6)
  split = make_split(clips, splits.FIT)
  assert split.train == split.validation == split.test == list(range(len(clips)))


def test_k_shots_are_nested_and_the_test_is_that_of_zs_3():
  clips = world(2)
  clips[30].commentary = ' '
  zero = make_split(clips, 'ZS-3', 'golf')
  drawn = [set(make_split(clips, 'K-shot', 'golf', shots=k, draw=1).train) for k in (5, 20, 60)]
  assert [len(part) for part in drawn] == [5, 20, 60]
  assert drawn[0] < drawn[1] < drawn[2]
  split = make_split(clips, 'K-shot', 'golf', shots=20, draw=1)
  assert (split.test, split.validation) == (zero.test, [])
  assert {clips[i].sport for i in split.train} == {'golf'}
  assert not {clips[i].participant for i in split.train} & {clips[i].participant for i in split.test}
  assert make_split(clips, 'K-shot', 'golf', shots=20, draw=2).train != split.train


def test_k_shots_are_clips_that_can_be_learnt_from():
  clips = world(3)
  there = [i for i, clip in enumerate(clips) if clip.sport == 'golf' and clip.pool == 'train']
  clips[there[0]].commentary = ''
  clips[there[1]].pool = 'validation'
  most = len(there) - sum(clips[i].pool == 'validation' or not clips[i].commentary for i in there)
  train = make_split(clips, 'K-shot', 'golf', shots=most).train
  assert set(train) == set(there[2:])
  for wrong in (most + 1, 0):
    with pytest.raises(ValueError, match=f"shots={wrong}, but 'golf' has {most} clips with commentary"):
      make_split(clips, 'K-shot', 'golf', shots=wrong)
