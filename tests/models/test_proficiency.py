import numpy as np
import pytest

from crosstrainer_jax.models.proficiency import Probe, fit_probe

SETTINGS = {'steps': 150, 'learning_rate': 0.1, 'weight_decay': 0.01}


def problem(seed: int = 0, clips: int = 120, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
  """Four separable levels, on features of unlike scales around unlike means."""
  random = np.random.default_rng(seed)
  centres = np.random.default_rng(9).normal(size=(4, 6))
  levels = random.integers(0, 4, clips)
  v = centres[levels] + noise * random.normal(size=(clips, 6))
  return ((v + 2) * np.logspace(-2, 2, 6)).astype(np.float32), levels


def accuracy(probe: Probe, v: np.ndarray, levels: np.ndarray) -> float:
  return float((np.asarray(probe.logits(v)).argmax(-1) == levels).mean())


def test_separable_levels_are_found_on_other_clips():
  probe = fit_probe(*problem(), **SETTINGS)
  assert (probe.kernel.shape, probe.bias.shape) == ((6, 4), (4,))
  assert accuracy(probe, *problem(seed=1)) > 0.95


def test_levels_that_are_not_known_weigh_nothing():
  v, levels = problem()
  known = fit_probe(v, levels, **SETTINGS)
  unknown = np.concatenate([levels, np.full(30, -1)])
  probes = [fit_probe(np.concatenate([v, rubbish]), unknown, **SETTINGS) for rubbish in (v[:30], 1e4 + 9 * v[:30])]
  np.testing.assert_array_equal(probes[0].kernel, probes[1].kernel)
  # sums over another number of rows round otherwise
  np.testing.assert_allclose(probes[0].logits(v), known.logits(v), atol=0.02)


def test_standardisation_is_folded_into_the_weights():
  v, levels = problem()
  mean, deviation = v.mean(0), v.std(0) + 1e-6
  raw, standard = fit_probe(v, levels, **SETTINGS), fit_probe((v - mean) / deviation, levels, **SETTINGS)
  np.testing.assert_allclose(raw.logits(v), standard.logits((v - mean) / deviation), rtol=1e-3, atol=1e-3)


def test_a_feature_that_never_changes_does_no_harm():
  v, levels = problem()
  v[:, 2] = 7.0
  probe = fit_probe(v, levels, **SETTINGS)
  assert np.isfinite(probe.kernel).all()
  assert accuracy(probe, v, levels) > 0.9


def test_clips_without_any_level_are_a_clear_error():
  v, levels = problem()
  with pytest.raises(ValueError, match=r'no clip has a proficiency level: set config\.probe\.steps=0'):
    fit_probe(v, np.full_like(levels, -1), **SETTINGS)


def test_features_that_are_not_finite_are_a_clear_error():
  v, levels = problem()
  v[3, 1] = np.nan
  with pytest.raises(ValueError, match='not finite: did the mapper diverge'):
    fit_probe(v, levels, **SETTINGS)


def test_a_probe_is_written_and_read(tmp_path):
  probe = fit_probe(*problem(), **(SETTINGS | {'steps': 2}))
  probe.save(tmp_path / 'probe' / 'probe.npz')
  read = Probe.load(tmp_path / 'probe' / 'probe.npz')
  assert read is not None
  for one, other in zip(read, probe, strict=True):
    np.testing.assert_array_equal(one, other)
  assert Probe.load(tmp_path / 'none.npz') is None
