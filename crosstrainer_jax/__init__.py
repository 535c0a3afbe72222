"""CrossTrainer in JAX: video-language models that coach a sport they have never seen.

From Python:

    import crosstrainer_jax
    coach = crosstrainer_jax.load('runs/cross_sport')
    print(coach.assess('my_jump.mp4', sport='basketball').describe())
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

# transformers serves tokenizers here; that it finds no PyTorch is no news to anybody.
os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')

if TYPE_CHECKING:
  from crosstrainer_jax.inference.coach import Coach


def load(workdir: str | Path, encoder_weights: str = '', decoder_weights: str = '') -> 'Coach':
  """The coach of a finished run: `load(dir).assess(path)`.

  Args:
    encoder_weights, decoder_weights: where the weights lie now that the run was trained from, if they were moved.

  Raises:
    FileNotFoundError: no trained model in `workdir`, or its weights are not where its config says.
  """
  # Imported here so that `import crosstrainer_jax` costs nothing.
  from crosstrainer_jax.inference import coach

  return coach.load(workdir, encoder_weights, decoder_weights)
