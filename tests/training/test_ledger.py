import json

import pytest

from crosstrainer_jax.training import ledger
from crosstrainer_jax.training.ledger import TimeLedger
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(ledger, 'time', clock)
  return clock


def spend(book, clock, **seconds):
  for account, length in seconds.items():
    book.turn_to(account)
    clock.now += length
  book.turn_to('init')


def test_every_second_is_in_one_account(clock):
  book = TimeLedger()
  clock.now = 3.0
  spend(book, clock, compile=4.0, data=0.5, step=10.0)
  spend(book, clock, data=0.5, step=2.0, save=1.0)
  assert book.seconds() == {
    'init': 3.0, 'compile': 4.0, 'data': 1.0, 'step': 12.0, 'eval': 0.0, 'save': 1.0, 'lost': 0.0,
  }  # fmt: skip
  assert book.elapsed == clock.now


def test_what_was_done_after_the_last_save_before_a_kill_is_lost(tmp_path, clock, capsys):
  first = TimeLedger(tmp_path / 'ledger.jsonl')
  first.resume(0, {})
  spend(first, clock, compile=5.0, step=20.0)
  saved = first.seconds()
  spend(first, clock, step=8.0, data=1.0)
  first.record('stage1', 30)  # the last that is heard of it

  second = TimeLedger(tmp_path / 'ledger.jsonl')
  second.resume(20, saved)
  spend(second, clock, step=10.0)
  second.record('stage1', 40)
  assert second.seconds() == {**saved, 'step': 30.0, 'lost': 9.0}
  assert second.elapsed == 44.0
  second.describe('stage1', 40, 11)
  assert capsys.readouterr().out == (
    '  stage1: 40 updates in 44.0 s over 2 starts, 10 clips/s: '
    'compile 5.0 s (11%), step 30.0 s (68%), lost 9.0 s (20%)\n'
  )
  lines = [json.loads(line) for line in (tmp_path / 'ledger.jsonl').read_text().splitlines()]
  assert [(line['stage'], line['start'], line['update'], line['seconds']['step']) for line in lines] == [
    ('stage1', 1, 30, 28.0), ('stage1', 2, 40, 30.0),
  ]  # fmt: skip


def test_a_run_that_was_killed_before_its_first_save_has_lost_all(tmp_path, clock):
  first = TimeLedger(tmp_path / 'ledger.jsonl')
  spend(first, clock, compile=5.0, step=20.0)
  first.record('stage1', 30)
  second = TimeLedger(tmp_path / 'ledger.jsonl')
  second.resume(0, {})
  assert second.seconds()['lost'] == second.elapsed == 25.0


def test_a_run_that_was_asked_to_stop_has_lost_nothing(tmp_path, clock):
  first = TimeLedger(tmp_path / 'ledger.jsonl')
  spend(first, clock, step=20.0)
  saved = first.seconds()
  spend(first, clock, save=2.0)
  first.record('stage1', 30)
  second = TimeLedger(tmp_path / 'ledger.jsonl')
  second.resume(30, saved)
  assert second.seconds() == {**saved, 'save': 2.0}


def test_a_line_that_a_kill_cut_short_costs_no_other(tmp_path, clock):
  path = tmp_path / 'ledger.jsonl'
  first = TimeLedger(path)
  first.record('stage1', 10)
  path.write_text(path.read_text() + '{"stage": "sta')
  second = TimeLedger(path)
  assert second.starts == 2
  second.record('stage1', 20)
  second.record('stage1', 30)
  assert TimeLedger(path).starts == 3
  assert [line['update'] for line in ledger._parse(path.read_text())] == [10, 20, 30]
