import os
import signal

import jax.numpy as jnp

from crosstrainer_jax.training import preemption
from crosstrainer_jax.training.profiling import Profiler


def go(profiler, updates):
  for update in updates:
    profiler.before(update)
    profiler.after(update, jnp.ones(4) * update)


def profiles(directory):
  return sorted(directory.glob('plugins/profile/*/*.xplane.pb'))


def test_a_window_of_the_config_and_a_signal_each_write_a_profile_for_tensorboard(tmp_path, capsys):
  profiler = Profiler(tmp_path / 'window', first=3, updates=2)
  go(profiler, range(3))
  assert not profiles(tmp_path / 'window')
  go(profiler, range(3, 8))
  assert len(profiles(tmp_path / 'window')) == 1
  assert 'a profile up to update 4 lies in' in capsys.readouterr().out

  asked = Profiler(tmp_path / 'asked', updates=100)
  with preemption.listening():
    go(asked, range(2))
    os.kill(os.getpid(), signal.SIGUSR1)
    go(asked, range(2, 4))
  assert not profiles(tmp_path / 'asked')
  asked.close(4)  # the stage ends before the window does
  assert len(profiles(tmp_path / 'asked')) == 1
