"""Optimiser and schedule from a config, with learning rates by parameter path."""

import functools
import operator
import re
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import optax


def schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
  """Linear warm-up to `learning_rate`, then cosine decay to `final_fraction` of it, over `steps` updates."""
  warmup = max(1, round(config.warmup_fraction * steps))
  curve = optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, warmup, max(steps, warmup + 1), end_value=config.final_fraction * config.learning_rate
  )
  # The first update is one step up the slope already: at a rate of 0 it would be lost.
  return lambda update: curve(update + 1)


def path_name(path: Sequence[Any]) -> str:
  """'mapper/up/kernel' for a key path of JAX."""
  return '/'.join(str(getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))) for key in path)


def scale_of(name: str, rules: Sequence[tuple[str, float]]) -> float:
  """Multiplier of the learning rate of the parameter `name`: of the first rule whose pattern is found in it, else 1."""
  return next((factor for pattern, factor in rules if re.search(pattern, name)), 1.0)


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """`config.name` with global-norm clipping, for a learning rate of 1: the step multiplies by the schedule's value.

  So the compiled update is the same for every stage, whatever its length.

  `adamw`, or `muon` (Jordan 2024) for the matrices of the decoder's layers and AdamW for the rest, with updates of the
  size of AdamW's (Liu et al. 2025, arXiv 2502.16982, eq. 4), so that one learning rate and weight decay serve both.

  `config.learning_rate_rules` is a sequence of (regular expression over the parameter path, factor): the paper trains
  f_m at 2e-3 and L at 2e-4 (section 4.1). Matrices decay; norms and biases do not, stacked over layers or not.
  """
  rules = [(str(pattern), float(factor)) for pattern, factor in config.learning_rate_rules]

  def scale(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
    del params
    scaled = jax.tree_util.tree_map_with_path(lambda path, u: u * scale_of(path_name(path), rules), updates)
    return scaled, state

  adam = optax.scale_by_adam(b1=config.b1, b2=config.b2)
  if config.name == 'muon':
    rest = functools.partial(jax.tree.map, operator.not_)
    directions = [
      optax.masked(_muon(), is_layer_matrix),
      optax.masked(adam, lambda params: rest(is_layer_matrix(params))),
    ]
  else:
    directions = [adam]
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    *directions,
    optax.add_decayed_weights(config.weight_decay, mask=is_matrix),
    _stateless(scale),
    optax.scale(-1.0),
  )


def is_matrix(params: Any) -> Any:
  """Which parameters decay, by name, since a stack of norms has two dimensions as well: a tree of booleans."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: re.search(r'(^|/)(kernel|embedding|lora_[ab])(/value)?$', path_name(path)) is not None, params
  )


def is_layer_matrix(params: Any) -> Any:
  """Which parameters are the stacked matrices [layers, inputs, outputs] of the decoder: a tree of booleans."""
  return jax.tree_util.tree_map_with_path(lambda path, p: '/layers/' in f'/{path_name(path)}' and p.ndim == 3, params)


def _muon() -> optax.GradientTransformation:
  """Orthogonalised momentum of every layer's matrices, with the root mean square 0.2 of AdamW's updates."""
  matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(1,), output_axis=(2,))

  def to_rms(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
    del params
    return jax.tree.map(lambda u: u * 0.2 * max(u.shape[-2:]) ** 0.5, updates), state

  directions = optax.contrib.scale_by_muon(
    weight_dimension_numbers=lambda params: jax.tree.map(lambda _: matrix, params)
  )
  return optax.chain(directions, _stateless(to_rms))


def _stateless(update: Any) -> optax.GradientTransformation:
  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
