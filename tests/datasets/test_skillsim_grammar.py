"""Commentary: every fault has words, the words fit, and other files of the same shape work."""

import dataclasses
import re
import tomllib

import numpy as np
import pytest

from crosstrainer_jax.datasets.skillsim import grammar
from crosstrainer_jax.datasets.skillsim.faults import FAULTS, Fault
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import World

HELD_OUT = grammar.DEFAULT.with_name('grammar_heldout.toml')
both_files = pytest.mark.parametrize('path', [grammar.DEFAULT, HELD_OUT], ids=lambda path: path.stem)


def _spec(sport='soccer', *present, index=0):
  return dataclasses.replace(World().spec(sport, 'train', index), faults=present)


@both_files
def test_each_fault_has_eight_different_phrasings(path):
  words = grammar.load(path)
  for name, directions in FAULTS.items():
    for direction in directions:
      assert len(set(words['criticism'][name][direction]['phrasings'])) >= 8


def test_no_phrasing_stands_in_both_files():
  first, second = grammar.load(grammar.DEFAULT), grammar.load(HELD_OUT)
  for name, directions in FAULTS.items():
    for direction in directions:
      assert not _phrasings(first, name, direction) & _phrasings(second, name, direction), (name, direction)
    assert not _praises(first, name) & _praises(second, name), name


def _phrasings(words, name, direction):
  return {p.lower() for p in words['criticism'][name][direction]['phrasings']}


def _praises(words, name):
  return {p.lower() for p in words['praise'][name]['phrasings']}


@both_files
def test_every_slot_is_filled_for_every_skill(path):
  rng = np.random.default_rng(0)
  for sport in SPORTS:
    for index in range(0, 200, 4):
      for name, directions in FAULTS.items():
        spec = _spec(sport, Fault(name, directions[index % 2], 0.5), index=index)
        text = grammar.render(spec, path, rng=rng)
        assert not re.search(r'[{}]|\s\s|\.\.', text), text
        assert text[0].isupper()
        assert text.endswith('.')


def test_a_faultless_clip_gets_praise_alone():
  words = grammar.load(grammar.DEFAULT)
  turns = [*words['joins']['turn'], *words['joins']['more']]
  for i in range(50):
    text = grammar.render(_spec(), rng=np.random.default_rng(i)).lower()
    assert not any(text.startswith(turn) for turn in turns)
    assert any(p.split('{')[0].strip() in text for p in words['praise']['whole'])


@both_files
def test_criticism_is_heard_of_present_faults_only(path):
  words = grammar.load(path)
  patterns = [
    (name, _pattern(p)) for name, ways in FAULTS.items() for way in ways for p in _phrasings(words, name, way)
  ]
  for i in range(60):
    faultless = grammar.render(_spec(index=i), path, rng=np.random.default_rng(i)).lower()
    assert not [p for _, p in patterns if p.search(faultless)], faultless
    name = list(FAULTS)[i % len(FAULTS)]
    faulty = grammar.render(_spec('soccer', Fault(name, FAULTS[name][i // 8 % 2], 0.5), index=i), path).lower()
    assert {n for n, p in patterns if p.search(faulty)} == {name}, faulty


def _pattern(phrasing):
  return re.compile(re.sub(r'\\{\w+\\}', '.+', re.escape(phrasing)))


@both_files
def test_the_same_clip_gets_the_same_words(path):
  specs = [World().spec(sport, 'train', i) for sport in SPORTS for i in range(10)]
  texts = [grammar.render(spec, path) for spec in specs]
  assert texts == [grammar.render(spec, path) for spec in specs]
  assert len(set(texts)) > 30


def test_a_fault_is_not_praised():
  words = grammar.load(grammar.DEFAULT)
  praise = [p.split('{')[0].strip() for p in words['praise']['balance']['phrasings']]
  spec = _spec('fitness', Fault('balance', 'tipping', 0.9))
  texts = [grammar.render(spec, rng=np.random.default_rng(i)).lower() for i in range(100)]
  assert not any(p in text for text in texts for p in praise)
  assert len(set(texts)) > 60


def test_noise_omits_and_imagines_at_its_rate():
  rng = np.random.default_rng(0)
  faults = (Fault('balance', 'tipping', 0.9), Fault('timing', 'late', 0.9))
  spoken = [[f.name for f in grammar.heard(faults, 0.4, rng)] for _ in range(2000)]
  assert np.mean(['balance' in s for s in spoken]) == pytest.approx(0.6, abs=0.04)
  assert np.mean([bool(set(s) - {'balance', 'timing'}) for s in spoken]) == pytest.approx(0.2, abs=0.04)
  assert sorted(f.name for f in grammar.heard(faults, 0.0, rng)) == ['balance', 'timing']


@both_files
def test_nouns_cover_the_words_of_each_sport(path):
  words = tomllib.loads(path.read_text())['words']
  nouns = grammar.nouns(path)
  assert set(nouns) == set(SPORTS)
  for sport, skills in words.items():
    for skill, slots in skills.items():
      if skill != 'nouns':
        for slot in ('action', 'implement', 'athlete'):
          assert any(noun in slots[slot] for noun in nouns[sport]), (skill, slot)


def test_another_file_of_the_same_shape_gives_other_words(tmp_path):
  other = tmp_path / 'grammar_other.toml'
  other.write_text(
    grammar.DEFAULT.read_text()
    .replace('balance', 'equilibrium')
    .replace('criticism.equilibrium', 'criticism.balance')
    .replace('praise.equilibrium', 'praise.balance')
  )
  spec = _spec('soccer', Fault('balance', 'tipping', 0.9))
  texts = [grammar.render(spec, other, rng=np.random.default_rng(i)) for i in range(30)]
  assert any('equilibrium' in text for text in texts)
  assert not any('balance' in text for text in texts)


def test_a_broken_file_is_named_with_all_that_it_lacks(tmp_path):
  broken = tmp_path / 'broken.toml'
  broken.write_text('[praise]\nwhole = ["fine"]\n')
  with pytest.raises(ValueError, match=r'broken.toml.*criticism."balance"."swaying".*joins'):
    grammar.load(broken)
  with pytest.raises(FileNotFoundError, match='absent.toml'):
    grammar.load(tmp_path / 'absent.toml')
