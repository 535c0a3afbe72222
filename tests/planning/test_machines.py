"""Which machines are known, how they are wired, and what is answered to names that are none."""

import pytest

from crosstrainer_jax.planning import machines


@pytest.mark.parametrize(
  ('name', 'kind', 'shape', 'chips'),
  [
    ('v5e:2x4', 'v5e', (2, 4), 8),
    ('v5e-1', 'v5e', (1, 1), 1),
    ('v5litepod-16', 'v5e', (4, 4), 16),
    ('v6e-256', 'v6e', (16, 16), 256),
    # cores are counted there, two to a chip
    ('v5p-8', 'v5p', (2, 2, 1), 4),
    ('v5p:4x4x8', 'v5p', (4, 4, 8), 128),
    ('V4-16', 'v4', (2, 2, 2), 8),
    ('h100:8', 'h100', (8,), 8),
    ('24gb:1', 'rtx4090', (1,), 1),
    ('48gb:2', 'l40s', (2,), 2),
  ],
)
def test_names(name, kind, shape, chips):
  machine = machines.parse(name)
  assert (machine.chip.name, machine.shape, machine.chips) == (kind, shape, chips)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v5e:3x3', 'no such slice of v5e; there are 1x1, 2x2, 2x4'),
    ('v5e:2x2x2', 'lie in 2 dimensions'),
    ('v5p:2x6x2', 'each side is a multiple of 4'),
    ('v6e-7', 'slices of v6e have the numbers 1, 4, 8'),
    ('h100:9', '1 to 8 GPUs'),
    ('tpu', 'no machine that is known here: give a TPU by its topology'),
    ('b200:1', 'rtx4090, l40s, a100, h100, 24gb'),
  ],
)
def test_what_is_no_machine_is_named(name, message):
  with pytest.raises(ValueError, match=message):
    machines.parse(name)
  with pytest.raises(ValueError, match='--slices is 0'):
    machines.parse('v5e:2x4', 0)


def test_a_group_is_as_fast_as_the_links_that_it_lies_along():
  pod, small, deep = machines.parse('v5e:16x16'), machines.parse('v5e:2x4'), machines.parse('v5p:4x4x4')
  link = pod.chip.link
  # two closed rings of 16, with two links each
  assert pod.group_bandwidth(256) == 4 * link
  assert pod.group_bandwidth(16) == 2 * link
  # a part of a ring is a line
  assert pod.group_bandwidth(4) == link
  # a line of 4 and one of 2
  assert small.group_bandwidth(8) == 2 * link
  assert small.group_bandwidth(2) == link
  assert deep.group_bandwidth(64) == 6 * deep.chip.link
  gpus = machines.parse('h100:8')
  assert gpus.group_bandwidth(8) == gpus.group_bandwidth(2) == gpus.chip.link
  two = machines.parse('v5e:16x16', slices=2)
  assert two.chips == 512
  assert two.group_bandwidth(512) == two.chip.network < link
  # a chip of one slice and its like in the other, against two neighbours
  assert two.group_bandwidth(2, (0, 256)) == two.chip.network
  assert two.group_bandwidth(2, (256, 257)) == link
  assert two.name == 'v5e:16x16 x 2 slices'
