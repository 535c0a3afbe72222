"""The estimator against published runs: how far it is off, and the factor that every estimate is multiplied by.

A plain Llama-3.1 of 8B and of 70B, all parameters training with AdamW, bf16 computation over float32 weights, sequences
of 8192, split over the 256 chips of a v6e: what MaxText publishes with its step times (AI-Hypercomputer/tpu-recipes,
training/trillium/Llama3.1-{8B,70B}-MaxText/v6e-256, tag tpu-recipes-v0.1.4). `published_step.py` compiles such a step
and prints what `RAW_SECONDS` holds.
"""

import dataclasses
import math
from typing import Any

from crosstrainer_jax.planning import sizes

TOPOLOGY, TOKENS = 'v6e:16x16', 8192


@dataclasses.dataclass(frozen=True)
class Published:
  """A published run.

  Attributes:
    sequences: on a chip.
    offloaded: what waits on the host for the backward pass.
    seconds, rate: of a step, and tokens a second on a chip.
  """

  name: str
  fields: dict[str, Any]
  sequences: int
  offloaded: tuple[str, ...]
  seconds: float
  rate: float


_PROJECTIONS = ('input', 'query', 'key', 'value')
RUNS = (
  Published('Llama-3.1-8B', sizes.LLAMA_8B, 4, (*_PROJECTIONS, 'output'), 4.546, 7207.336),
  Published('Llama-3.1-70B', sizes.LLAMA_70B, 5, _PROJECTIONS, 42.656, 960.248),
)

# What `published_step` printed (jax 0.10.2, libtpu 0.0.42.1): seconds of the estimate before calibration.
RAW_SECONDS = {'Llama-3.1-8B': 4.753, 'Llama-3.1-70B': 40.966}


def constant(raw: dict[str, float]) -> float:
  """The factor that makes the estimates right on (geometric) average; 1 where there are none."""
  ratios = [run.seconds / raw[run.name] for run in RUNS if run.name in raw]
  return math.prod(ratios) ** (1 / len(ratios)) if ratios else 1.0


CONSTANT = constant(RAW_SECONDS)


def summary(raw: dict[str, float]) -> str:
  """What every estimate is printed with: how far this estimator is off on the published runs, before and after."""
  parts = []
  for run in RUNS:
    if run.name in raw:
      before, after = (seconds / run.seconds - 1 for seconds in (raw[run.name], raw[run.name] * constant(raw)))
      parts.append(f'{run.name} {run.rate:,.0f} tokens/s a chip: {before:+.0%} before, {after:+.0%} after')
  if not parts:
    return 'Not calibrated.'
  return (
    f'Calibrated on steps that MaxText publishes for {TOPOLOGY} at {TOKENS} tokens, in seconds '
    f'({"; ".join(parts)}). The difference is of program plus estimator.'
  )


SUMMARY = summary(RAW_SECONDS)
