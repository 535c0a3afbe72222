import jax.numpy as jnp
import pytest

from crosstrainer_jax.training.window import NonFiniteLoss, Window


def scalars(loss=1.0, weight=2.0, **more):
  values = {'loss': loss, 'weight': weight, 'grad_norm': 3.0, 'update_norm': 0.1, 'param_norm': 5.0} | more
  return {name: jnp.float32(value) for name, value in values.items()}


def test_means_weigh_what_was_learnt_from_and_count_norms():
  window = Window(4)
  assert not window
  window.add(4, '', scalars(loss=1.0, weight=1.0))
  window.add(5, '', scalars(loss=4.0, weight=3.0, grad_norm=5.0))
  assert window
  assert (window.first, window.last) == (4, 5)
  means = window.means('stage1')['']
  assert means['loss'] == pytest.approx(3.25)
  assert means['grad_norm'] == 4.0
  assert means['weight'] == 2.0


def test_kinds_are_apart_and_together():
  window = Window(0)
  for update, kind, loss in ((0, 'a', 1.0), (1, 'b', 2.0), (2, 'a', 3.0)):
    window.add(update, kind, scalars(loss))
  means = window.means('stage2')
  assert {kind: values['loss'] for kind, values in means.items()} == {'a': 2.0, 'b': 2.0, '': 2.0}


def test_the_first_norm_that_diverged_is_named_with_its_update():
  window, bad = Window(10), float('inf')
  window.add(10, 'a', scalars(**{'grad_norm/mapper': 1.0, 'grad_norm/decoder/layers': 1.0}))
  window.add(11, 'b', scalars(**{'grad_norm/mapper': 1.0, 'grad_norm/decoder/layers': bad}, grad_norm=bad))
  window.add(
    12, 'a', scalars(float('nan'), **{'grad_norm/mapper': bad, 'grad_norm/decoder/layers': bad}, grad_norm=bad)
  )
  with pytest.raises(NonFiniteLoss) as error:
    window.means('stage1')
  assert 'not finite between updates 10 and 12 (loss=nan' in str(error.value)
  assert 'It began at update 11 with grad_norm, grad_norm/decoder/layers.' in str(error.value)


def test_a_metric_that_is_no_number_ends_nothing():
  window = Window(0)
  window.add(0, '', scalars(accuracy=float('nan')))
  assert window.means('stage1')['']['loss'] == 1.0
