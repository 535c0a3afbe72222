import io
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crosstrainer_jax.training import telemetry
from crosstrainer_jax.training.telemetry import MetricWriter, Progress, say
from tests.clock import Clock


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(telemetry, 'time', clock)
  return clock


def test_scalars_images_and_texts_land_in_an_event_file(tmp_path):
  writer = MetricWriter(tmp_path / 'tensorboard')
  for step in (1, 5):
    writer.write_scalars(step, {'train/loss': np.float32(step / 2), 'train/rate': 0.25})
  image = np.zeros((2, 4, 6, 3), np.uint8)
  image[:, 1, 2] = 255
  writer.write_images(5, {'clips': image})
  writer.write_texts(5, {'words': 'truth and prediction'})
  writer.close()
  events = EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  assert [(event.step, event.value) for event in events.Scalars('train/loss')] == [(1, 0.5), (5, 2.5)]
  assert [event.value for event in events.Scalars('train/rate')] == [0.25, 0.25]
  (shown,) = events.Images('clips')
  assert (shown.step, shown.height, shown.width) == (5, 4, 12)
  (text,) = events.Tensors('words/text_summary')
  assert text.tensor_proto.string_val[0] == b'truth and prediction'


def test_plain_lines_off_a_terminal(clock, capsys):
  progress = Progress('stage1', 100, seconds=10)
  for second in range(1, 41):
    clock.now = second
    progress.update()
    if second == 15:
      progress.update(0, loss=2.0, rate=0.12345)
  progress.close()
  assert capsys.readouterr().out.splitlines() == [
    '  stage1: 10/100  90 s left',
    '  stage1: 20/100  loss 2  rate 0.123  80 s left',
    '  stage1: 30/100  loss 2  rate 0.123  70 s left',
    '  stage1: 40/100  loss 2  rate 0.123  60 s left',
  ]


def test_time_left_counts_from_where_it_resumed(clock, capsys):
  progress = Progress('stage1', 100, initial=90, seconds=10)
  clock.now = 10.0
  progress.update(2)
  assert capsys.readouterr().out == '  stage1: 92/100  40 s left\n'


def test_a_bar_on_a_terminal(monkeypatch, capsys):
  terminal = Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  progress = Progress('stage1', 4, initial=1)
  progress.update(2, loss=0.5)
  say('a line')
  progress.close()
  shown = terminal.getvalue()
  assert 'stage1' in shown
  assert '1/4' in shown
  assert capsys.readouterr().out == 'a line\n'


def test_say_prints_a_line(capsys):
  say('hello')
  assert capsys.readouterr().out == 'hello\n'
