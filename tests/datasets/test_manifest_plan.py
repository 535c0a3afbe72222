"""What is estimated of an import."""

from crosstrainer_jax.datasets.manifest import plan

SECOND = {'mu1': 0.5, 'mu2': 0.5, 'fps': 4.0, 'size': 16}


def test_the_estimate_fits(tmp_path, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  config = plan.ManifestConfig(name='mine', manifest=str(write_manifest(tmp_path, row())), **SECOND)
  estimated = plan.estimate(plan.make_plan(config), config)
  assert estimated.cache_bytes == 3 * 4 * 16 * 16 * 3
  assert 0 < estimated.dataset_bytes < estimated.cache_bytes
  assert estimated.seconds > 0
