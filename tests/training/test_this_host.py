"""The model on one host's own devices; what several processes come to is in test_processes."""

import jax
import numpy as np

from crosstrainer_jax.training.this_host import HostModel


def test_it_answers_as_before(run):
  params = run.params('stage2')
  here = HostModel.of(run.blueprint, run.config, run.text.rows, run.video_encoder.config.feature_dim, run.text.video_id)
  assert here.mesh.devices.size == len(jax.local_devices())
  brought = here.bring(params)
  assert jax.tree.structure(brought) == jax.tree.structure(params)
  tokens = np.zeros((8, 2), np.int32)
  one, other = (
    blueprint.merge(own).decoder.embed(tokens)
    for blueprint, own in ((run.blueprint, params), (here.blueprint, brought))
  )
  np.testing.assert_array_equal(one, other)
