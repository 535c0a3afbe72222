"""Two that want the same thing: one makes it, the other waits and finds it."""

import multiprocessing
import threading
import time

from crosstrainer_jax.input.turns import take_turns


def hold(place, holding):
  with take_turns(place, 'the thing'):
    holding.set()
    time.sleep(60)


def test_the_second_waits_and_says_so(tmp_path, capsys):
  place, order = tmp_path / 'made', []

  def second():
    with take_turns(place, 'the thing'):
      order.append(place.read_text())

  with take_turns(place, 'the thing'):
    other = threading.Thread(target=second)
    other.start()
    other.join(0.5)
    assert other.is_alive()
    place.write_text('whole')
  other.join(10)
  assert order == ['whole']
  assert 'another process is making the thing; waiting' in capsys.readouterr().out


def test_nobody_waits_for_a_process_that_was_killed(tmp_path):
  spawned = multiprocessing.get_context('spawn')
  holding = spawned.Event()
  holder = spawned.Process(target=hold, args=(tmp_path / 'made', holding))
  holder.start()
  assert holding.wait(60)
  holder.kill()
  holder.join()
  with take_turns(tmp_path / 'made', 'the thing'):
    pass
