"""What the terminal shows, and the same as data."""

import dataclasses
import json

import pytest

from crosstrainer_jax.planning import compilation, epochs, hlo, machines, plan, report, search
from crosstrainer_jax.planning.machines import GIB
from tests.planning.conftest import FEATURE_DIM


@pytest.fixture(scope='module')
def made(tiny_config, clip):
  return plan.make_plan(tiny_config, machines.parse('h100:8'), clip, FEATURE_DIM, how=plan.FORMULAS)


def test_text(made):
  text = report.text(made, 'configs/tiny.py', {'L': 'sizes of the config'}, [epochs.Cost('stage I', 10, 60.0, 8)])
  assert text.startswith('configs/tiny.py on h100:8: 8 chips of 68.55 GiB')
  assert 'Estimate: nothing was run.' in text
  assert '2 views × 3 s = 6 video tokens, 20 of prompt, 10 of target: 36' in text
  assert 'train step: fits (' in text
  assert 'by formulas' in text
  assert 'stage I    10 updates, 1.0 min, 8 chip-minutes' in text
  assert 'Not calibrated.' in ' '.join(text.split())
  assert all(len(line) <= report.WIDTH for line in text.splitlines())


def test_what_does_not_fit_says_by_how_much_and_what_to_try(made):
  large = dataclasses.replace(made.train, needed=made.train.available + 3.1 * GIB)
  candidate = search.Candidate(4, 1, 'full', (1, 8, 1))
  proposal = plan.Proposal(candidate, ['--config.training.batch_size=4'], made.train)
  text = report.text(dataclasses.replace(made, train=large, proposal=proposal, searched=True, tried=2), 'c', {})
  assert 'does not fit, short by 3.10 GiB a chip' in text
  assert 'short by 3.10 GiB; try --config.training.batch_size=4\n' in text
  assert '4 clips an update in place of 8 are another training' in text
  without = report.text(dataclasses.replace(made, train=large, searched=True, tried=8), 'c', {})
  assert 'no change of turns, clips, rematerialisation and mesh fits (8 were tried)' in without


def test_what_was_compiled_quickly_is_said(made):
  memory = compilation.Memory({'temporary': GIB}, GIB, 15.75 * GIB)
  compiled = compilation.Compiled('train step', memory, hlo.Module({}, ''), 0.0, 24.0, quick=True)
  tpu = dataclasses.replace(
    made, machine=machines.parse('v5e:2x4'), train=dataclasses.replace(made.train, compiled=compiled)
  )
  text = ' '.join(report.text(tpu, 'c', {}).split())
  assert 'compiled quickly in 24 s' in text
  assert 'the compiler gives no cycles that hold' in text
  assert 'Not calibrated.' in text
  assert report.data(tpu, 'c', {})['train_step']['quick']


def test_a_warning_is_shown(made):
  assert 'The most chips' in report.text(dataclasses.replace(made, warning='The most chips are 8'), 'c', {})


def test_data_is_json_and_says_the_same(made):
  data = json.loads(json.dumps(report.data(made, 'c', {}, [epochs.Cost('stage I', 10, 60.0, 8)])))
  train = data['train_step']
  assert train['fits']
  assert train['needed'] == pytest.approx(sum(train['kinds'].values()))
  assert train['parts'][0]['seconds'] == made.train.parts[0].estimate.seconds
  assert data['stages'] == [{'stage': 'stage I', 'updates': 10, 'seconds': 60.0, 'chip_minutes': 8.0}]
  assert data['update']['clips'] == 8
