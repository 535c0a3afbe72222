from crosstrainer_jax.input.shuffled import Shuffled


def test_every_epoch_has_every_item_once():
  order = Shuffled(7, 3)
  stream = [order[place] for place in range(28)]
  epochs = [stream[start : start + 7] for start in range(0, 28, 7)]
  assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_place_is_the_same_whoever_asks():
  order = Shuffled(5, 0)
  later = order[43]
  assert [order[place] for place in (0, 43, 12)] == [Shuffled(5, 0)[0], later, Shuffled(5, 0)[12]]
