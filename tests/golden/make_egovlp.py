"""Writes `egovlp.npz`: what the reference in PyTorch makes of a few pictures, for machines without PyTorch.

    python tests/golden/make_egovlp.py

The file holds the pictures, the states after the embedding and after every block, and the feature. The weights are not
in it: `weights` makes them again from a seed, here and in the tests. Only `main` needs PyTorch.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name('egovlp.npz')
REFERENCE = Path(__file__).parents[1] / 'parity' / 'egovlp_reference.py'

SIZES = {'width': 32, 'layers': 3, 'heads': 2, 'patch': 4, 'image': 16, 'frames': 4, 'projection': 24}
MLP_RATIO = 4
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
# Where the stream is written to: scaled down by this, its variance is of the size of the norms' eps.
STREAM = ('cls_token', 'pos_embed', 'temporal_embed', 'patch_embed.proj', 'attn.proj', 'mlp.fc2')


def shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
  """Names of the published checkpoint and their shapes, in the order in which `weights` draws them."""
  width, projection = sizes['width'], sizes['projection']

  def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}

  def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}

  found: dict[str, tuple[int, ...]] = {
    'video_model.cls_token': (1, 1, width),
    'video_model.pos_embed': (1, 1 + (sizes['image'] // sizes['patch']) ** 2, width),
    'video_model.temporal_embed': (1, sizes['frames'], width),
    'video_model.patch_embed.proj.weight': (width, 3, sizes['patch'], sizes['patch']),
    'video_model.patch_embed.proj.bias': (width,),
  }
  for layer in range(sizes['layers']):
    block = f'video_model.blocks.{layer}.'
    for number in (1, 2, 3):
      found |= norm(f'{block}norm{number}')
    for attention in ('attn', 'timeattn'):
      found |= linear(f'{block}{attention}.qkv', width, 3 * width) | linear(f'{block}{attention}.proj', width, width)
    found |= linear(f'{block}mlp.fc1', width, MLP_RATIO * width) | linear(f'{block}mlp.fc2', MLP_RATIO * width, width)
  found |= norm('video_model.norm')
  found |= {'vid_proj.0.weight': (projection, width)}
  return found | linear('vid_proj.2', projection, projection) | linear('vid_proj.4', projection, projection)


def weights(sizes: dict[str, int], seed: int = 0, stream: float = 1.0) -> dict[str, np.ndarray]:
  """float32 tensors by name: normal around 0, scales of norms around 1; one generator, drawn in order.

  The std is 0.2, and 0.4 for the projection, whose result would else be small.

  Args:
    stream: factor on what is written to the residual stream. At 1 its variance is near 1 and no eps of a norm shows.
  """
  rng = np.random.default_rng(seed)
  made = {}
  for name, shape in shapes(sizes).items():
    centre = 1.0 if 'norm' in name and name.endswith('weight') else 0.0
    std = 0.4 if name.startswith('vid_proj') else 0.2
    factor = stream if any(part in name for part in STREAM) else 1.0
    made[name] = (factor * (centre + std * rng.standard_normal(shape))).astype(np.float32)
  return made


def pictures(sizes: dict[str, int], count: int = 2, seed: int = 1) -> np.ndarray:
  """uint8[count, frames, image, image, 3]."""
  shape = (count, sizes['frames'], sizes['image'], sizes['image'], 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def normalised(frames: np.ndarray) -> np.ndarray:
  """float32[N, frames, 3, image, image] of uint8[N, frames, image, image, 3], with ImageNet's mean and deviation."""
  return np.moveaxis((frames.astype(np.float32) / 255 - MEAN) / STD, -1, -3)


def load_reference() -> Any:
  """The module `egovlp_reference`; needs PyTorch."""
  spec = importlib.util.spec_from_file_location('egovlp_reference', REFERENCE)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def main() -> None:
  import torch

  model = load_reference().EgoVLP(**SIZES).eval()
  model.load_state_dict({name: torch.tensor(value) for name, value in weights(SIZES).items()})
  frames = pictures(SIZES)
  with torch.no_grad():
    feature, states = model(torch.tensor(normalised(frames)))
  # One video's states are enough: they are most of the file.
  np.savez_compressed(
    GOLDEN, frames=frames, feature=feature.numpy(), states=np.stack([state[0].numpy() for state in states])
  )


if __name__ == '__main__':
  main()
