"""Writes tests/golden/vjepa2.npz: what V-JEPA 2 of `transformers` makes of a few frames. Needs PyTorch.

python tests/golden/make_vjepa2.py
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name('vjepa2.npz')
SEED = 0
CONFIG = {
  'hidden_size': 40, 'num_attention_heads': 2, 'num_hidden_layers': 2, 'mlp_ratio': 2.5, 'layer_norm_eps': 0.05,
  'crop_size': 32, 'patch_size': 8, 'frames_per_clip': 4,
  'pred_hidden_size': 24, 'pred_num_attention_heads': 2, 'pred_num_hidden_layers': 1,
}  # fmt: skip


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
  """Random weights float32, drawn one tensor after the other in the order of their names: normal with a standard
  deviation of 0.2, around 1 for the scales of norms and around 0 for the rest."""
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(float('norm' in name and name.endswith('weight')), 0.2, shapes[name]).astype(np.float32)
    for name in sorted(shapes)
  }


def main() -> None:
  import torch
  import transformers

  model = transformers.VJEPA2Model(transformers.VJEPA2Config(**CONFIG, attn_implementation='eager')).eval()
  shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name.startswith('encoder.')}
  tensors = {name: torch.tensor(array) for name, array in weights(shapes, SEED).items()}
  assert not model.load_state_dict(tensors, strict=False).unexpected_keys
  pixels = np.random.default_rng(SEED).normal(size=(1, 4, 32, 32, 3)).astype(np.float16).astype(np.float32)
  with torch.no_grad():
    clips = torch.tensor(np.moveaxis(pixels, -1, -3))
    output = model(clips, skip_predictor=True, output_hidden_states=True)
  np.savez_compressed(
    FILE,
    config=json.dumps(CONFIG),
    shapes=json.dumps(shapes),
    seed=SEED,
    pixels=pixels.astype(np.float16),
    states=np.stack([state.numpy() for state in output.hidden_states[1:]]),
    tokens=output.last_hidden_state.numpy(),
  )


if __name__ == '__main__':
  main()
