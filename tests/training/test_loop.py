"""The order of the loop, resuming to the bit, and what happens when the loss diverges."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosstrainer_jax.training import loop, preemption, sharding
from crosstrainer_jax.training.checkpoints import Checkpoints
from crosstrainer_jax.training.ledger import TimeLedger
from crosstrainer_jax.training.loop import fit
from crosstrainer_jax.training.step import TrainState
from crosstrainer_jax.training.window import NonFiniteLoss

RATE = 0.1


class Writer:
  """Keeps what it is given."""

  def __init__(self):
    self.rows: dict[int, dict[str, float]] = {}

  def write_scalars(self, step, scalars):
    self.rows.setdefault(step, {}).update(scalars)

  def flush(self):
    pass

  def losses(self):
    return {step: row['toy/loss'] for step, row in self.rows.items() if 'toy/loss' in row}


def train(toy, steps, directory=None, step=None, writer=None, **options):
  settings = {'save_every': 3, 'log_every': 1, 'clips_per_step': 8} | options
  return fit(
    'toy',
    step or toy.step,
    toy.state(),
    toy.batches(),
    steps,
    lambda index: RATE / (1 + index),
    mesh=toy.mesh,
    checkpoints=None if directory is None else Checkpoints(directory, keep=1),
    writer=writer or Writer(),
    **settings,
  )


def killed_after(step, updates):
  """The step, which is killed when it would make one more update."""

  def limited(state, batch, rate):
    if int(state.step) == updates:
      raise KeyboardInterrupt
    return step(state, batch, rate)

  return limited


def assert_same(one, other):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture
def no_device(monkeypatch):
  """Batches stay on the host, for steps that are fakes."""
  monkeypatch.setattr(sharding, 'put_batch', lambda batch, mesh: batch)
  monkeypatch.setattr(loop, 'on_mesh', lambda value, mesh: value)


def test_evaluate_save_next_batch_step(no_device):
  events = []

  class Recorder:
    def prepare(self, state):
      events.append('prepare')

    def restore(self, like):
      return None

    def best_loss(self):
      return 0.1

    def save(self, step, state, iterator, seconds, loss):
      assert step == state.step
      assert seconds.keys() >= {'step', 'save'}
      events.append(f'save {step} {iterator["k"]} {loss}')

    def wait(self):
      events.append('wait')

    def close(self):
      events.append('close')

  class Batches:
    k = 0

    def __iter__(self):
      return self

    def __next__(self):
      events.append(f'batch {self.k}')
      self.k += 1
      return {}

    def get_state(self):
      return {'k': self.k}

  one = jnp.float32(1)

  def step(state, batch, rate):
    events.append(f'step {state.step} {rate:.1f}')
    scalars = ('loss', 'grad_norm', 'update_norm', 'param_norm', 'weight')
    return TrainState(state.step + 1, {}, {}, None), dict.fromkeys(scalars, one)

  def evaluate(params):
    events.append('evaluate')
    return {'score': 0.5}

  writer = Writer()
  state = fit(
    'toy', step, TrainState(0, {}, {}, None), Batches(), 5, lambda index: index / 10, mesh=None, checkpoints=Recorder(),
    writer=writer, save_every=2, log_every=2, evaluate=evaluate, evaluate_every=4,
  )  # fmt: skip
  assert state.step == 5
  assert events == [
    'prepare', 'batch 0', 'step 0 0.0', 'batch 1', 'step 1 0.1',
    'save 2 2 None', 'batch 2', 'step 2 0.2', 'batch 3', 'step 3 0.3',
    'evaluate', 'save 4 4 0.5', 'batch 4', 'step 4 0.4',
    'save 5 5 None', 'wait', 'close',
  ]  # fmt: skip
  assert sorted(writer.rows) == [1, 3, 4]
  assert writer.rows[4] | {'toy/score': 0.5} == writer.rows[4]


def test_what_is_logged(toy):
  writer = Writer()
  train(toy, 7, writer=writer, log_every=3)
  assert sorted(writer.rows) == [2, 5, 6]
  assert writer.rows[5]['toy/learning_rate'] == pytest.approx(RATE / 6)
  assert set(writer.rows[2]) == set(writer.rows[6])
  for row in writer.rows.values():
    assert row['toy/clips_per_second'] > 0
    assert 0 <= row['toy/data_wait_share'] <= 1
    assert 0 <= row['toy/data_wait_p95'] <= 1
    assert row['toy/weight'] == 8


def test_means_are_over_every_update_since_the_last_report(toy):
  each, some = Writer(), Writer()
  train(toy, 6, writer=each)
  train(toy, 6, writer=some, log_every=3)
  for last in (2, 5):
    for key in ('loss', 'size', 'grad_norm'):
      values = [each.rows[index][f'toy/{key}'] for index in range(last - 2, last + 1)]
      assert some.rows[last][f'toy/{key}'] == pytest.approx(np.mean(values), rel=1e-5)


def test_kinds_of_updates_are_logged_apart_and_together(toy):
  each, some = Writer(), Writer()
  train(toy, 5, writer=each)
  # the last update of the window is always of the same kind, and the other one shows all the same
  train(toy, 5, writer=some, log_every=5, kind_of=lambda index: 'odd' if index % 2 else 'even')
  losses, row = each.losses(), some.rows[4]
  assert row['toy/even/loss'] == pytest.approx(np.mean([losses[i] for i in (0, 2, 4)]), rel=1e-5)
  assert row['toy/odd/loss'] == pytest.approx(np.mean([losses[i] for i in (1, 3)]), rel=1e-5)
  assert row['toy/loss'] == pytest.approx(np.mean(list(losses.values())), rel=1e-5)


@pytest.mark.parametrize('killed', [1, 3, 4, 8])
def test_a_kill_and_resume_is_the_same_run_to_the_bit(toy, tmp_path, killed):
  whole, losses = train(toy, 9, writer=(uninterrupted := Writer())), uninterrupted.losses()
  with pytest.raises(KeyboardInterrupt):
    train(toy, 9, tmp_path, killed_after(toy.step, killed))
  resumed = train(toy, 9, tmp_path, writer=(writer := Writer()))
  assert_same(resumed, whole)
  first = killed // 3 * 3
  assert writer.losses() == {step: loss for step, loss in losses.items() if step >= first}


def test_a_finished_run_is_not_trained_further(toy, tmp_path, capsys):
  whole = train(toy, 4, tmp_path)
  again = train(toy, 4, tmp_path, killed_after(toy.step, 4), writer=(writer := Writer()))
  assert_same(again, whole)
  assert writer.rows == {}
  assert 'toy: resumed at update 4 of 4' in capsys.readouterr().out


def test_more_updates_go_on_from_the_end(toy, tmp_path):
  train(toy, 4, tmp_path)
  assert_same(train(toy, 6, tmp_path), train(toy, 6))


def poisoned(step, update):
  """The step, whose parameters become NaN with one update."""

  def wrapped(state, batch, rate):
    if int(state.step) == update:
      with jax.transfer_guard('allow'):
        batch = batch | {'y': batch['y'] * jnp.nan}
    return step(state, batch, rate)

  return wrapped


# seen when it is logged, or else at the next save, even where the save comes before the logged metrics are read
@pytest.mark.parametrize(
  ('update', 'log_every', 'window'), [(4, 1, '4 and 4'), (3, 4, '0 and 3'), (4, 20, '0 and 5'), (5, 6, '0 and 5')]
)
def test_a_diverged_run_stops_and_keeps_the_last_good_checkpoint(toy, tmp_path, update, log_every, window):
  with pytest.raises(
    NonFiniteLoss, match=rf'toy: not finite between updates {window} \(loss=nan.*update {update} with loss.*good'
  ):
    train(toy, 12, tmp_path, poisoned(toy.step, update), log_every=log_every)
  restored = Checkpoints(tmp_path).restore(toy.state())
  assert (restored.step, restored.iterator) == (3, {'number': 3})
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state.params))
  # with the cause gone the run goes on as if nothing had been
  assert_same(train(toy, 6, tmp_path), train(toy, 6))


def test_divergence_in_the_last_update_is_seen(toy, tmp_path):
  with pytest.raises(NonFiniteLoss, match='between updates 3 and 4'):
    train(toy, 5, tmp_path, poisoned(toy.step, 4), log_every=3)
  assert Checkpoints(tmp_path).latest() == 3


def test_a_better_validation_loss_is_saved_and_stays(toy, tmp_path):
  """The best of what was evaluated stays beside the newest, also where a restart lies between."""
  scores = iter([0.5, 0.2, 0.4, 0.3])
  options = {'save_every': 100, 'evaluate_every': 2, 'evaluate': lambda params: {'a': next(scores), 'b': 1.0}}
  train(toy, 5, tmp_path, **options)
  assert steps_in(tmp_path) == [4, 5]
  train(toy, 10, tmp_path, **options)
  assert steps_in(tmp_path) == [4, 10]
  assert Checkpoints(tmp_path).best_loss() == pytest.approx(0.6)


def steps_in(directory):
  return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def test_sigterm_saves_between_two_updates_and_the_run_goes_on_to_the_bit(toy, tmp_path, capsys):
  whole = train(toy, 9)

  def step(state, batch, rate):
    if int(state.step) == 4:
      preemption._notice.stop.set()
    return toy.step(state, batch, rate)

  with preemption.listening(), pytest.raises(preemption.Preempted):
    train(toy, 9, tmp_path, step, save_every=100)
  assert 'toy: stopped before update 5 of 9, saved' in capsys.readouterr().out
  assert steps_in(tmp_path) == [5]
  assert_same(train(toy, 9, tmp_path), whole)


def test_a_resumed_run_holds_one_state(toy, tmp_path, monkeypatch):
  train(toy, 3, tmp_path)
  fresh = toy.state()
  monkeypatch.setattr(toy, 'state', lambda: fresh)
  train(toy, 6, tmp_path)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))


def test_time_is_counted_over_restarts(toy, tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with pytest.raises(KeyboardInterrupt):
    train(toy, 9, tmp_path / 'run', killed_after(toy.step, 8), ledger=TimeLedger(path))
  train(toy, 9, tmp_path / 'run', ledger=(book := TimeLedger(path)), writer=(writer := Writer()))
  seconds = book.seconds()
  assert book.starts == 2
  assert all(seconds[account] > 0 for account in ('init', 'compile', 'data', 'step', 'save', 'lost'))
  shown = [writer.rows[8][f'toy/time/{account}'] for account in seconds]
  assert 0 < sum(shown) <= sum(seconds.values())


@pytest.mark.parametrize('busy', [False, True])
def test_a_wait_for_a_batch_counts_where_the_devices_have_nothing_to_do(toy, monkeypatch, capsys, busy):
  class Slow(toy.batches):
    def __next__(self):
      time.sleep(0.02)
      return super().__next__()

  monkeypatch.setattr(toy, 'batches', Slow)
  monkeypatch.setattr(loop._Loop, '_busy', lambda self: busy)
  train(toy, 5, writer=(writer := Writer()), ledger=(book := TimeLedger()), log_every=5)
  # four updates of five: the first wait is that for the readers to begin
  assert (book.seconds()['data'] >= 0.08) == (not busy)
  assert (writer.rows[4]['toy/data_wait_p95'] > 0) == (not busy)
  assert ('in 1 of 20 updates the devices waited for data' in capsys.readouterr().out) == (not busy)


def test_nothing_moves_between_host_and_devices_unasked(toy):
  def careless(state, batch, rate):
    return toy.step(state, batch, np.float32(rate))

  train(toy, 2)
  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    train(toy, 2, step=careless)


def test_a_run_has_a_profile(toy, tmp_path):
  from crosstrainer_jax.training.profiling import Profiler

  train(toy, 6, profiler=Profiler(tmp_path, first=2, updates=2))
  assert len(list(tmp_path.glob('plugins/profile/*/*.xplane.pb'))) == 1


def test_the_host_is_not_far_ahead_of_the_devices(toy, monkeypatch):
  waited = []
  monkeypatch.setattr(loop.jax, 'block_until_ready', waited.append)
  train(toy, 7, log_every=100)
  assert len(waited) == 7 - loop.AHEAD
