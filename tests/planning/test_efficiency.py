"""The paper's train step computes hardly more than it must: counted in the compiled program, not in formulas."""

import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.planning import analytic, costs, hlo, programs, sizes, workload
from crosstrainer_jax.training import sharding


@pytest.mark.parametrize(('remat', 'most'), [('none', 1.15), ('full', 1.55)])
def test_products_of_a_real_token(remat, most, tmp_path, record_property):
  """No gradients of frozen weights, no logits where nothing is learnt, hardly any padding.

  What is needed is 4N + 6N_lora + attention within the clip, with N = 6.98e9, and the head at targets; full
  rematerialisation computes the blocks once more.
  """
  config = settings.load_config('configs/cross_sport.py:paper', [f'decoder.remat={remat}'])
  config, _ = sizes.with_decoder_sizes(config, tmp_path)
  mesh = sharding.make_mesh(config.mesh)
  model = programs.make_model(config, mesh, sizes.feature_dim(config)[0])
  update = workload.make_workload(config, workload.Clip(), sharding.data_shards(mesh))
  module = hlo.parse(programs.train_step(model, update).lower().compile().as_text())
  counted = costs.of_program(module, mesh.size).flops * mesh.size
  share = counted / analytic.flops(model, update, remat).useful
  record_property('times what is needed', round(share, 3))
  assert 1.0 <= share <= most
