"""Writes tests/golden/{clip,siglip,siglip2}.npz: what the models of `transformers` make of a few pictures and texts.

Needs PyTorch.

python tests/golden/make_image_text.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
TOWER = {'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 2, 'num_attention_heads': 4}
TEXT = {
  **TOWER, 'vocab_size': 30, 'max_position_embeddings': 9, 'bos_token_id': 1, 'eos_token_id': 28, 'pad_token_id': 0,
}  # fmt: skip
# The pictures' last row and column of pixels fill no patch.
VISION = {**TOWER, 'image_size': 17, 'patch_size': 8}
CLIP = {'model_type': 'clip', 'vision_config': VISION, 'text_config': TEXT, 'projection_dim': 24}
SIGLIP = {'model_type': 'siglip', 'vision_config': VISION, 'text_config': TEXT}
# A grid of 3 x 3 positions; pictures of at most 8 patches.
SIGLIP2 = {'model_type': 'siglip2', 'vision_config': {**TOWER, 'num_patches': 9, 'patch_size': 4}, 'text_config': TEXT}
SHAPES = ((2, 4), (7, 1), (1, 2))


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int, spread: float = 0.2) -> dict[str, np.ndarray]:
  """Random weights float32, drawn one tensor after the other in the order of their names: normal with a standard
  deviation of `spread`, around 1 for the scales of norms and around 0 for the rest."""
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(float('norm' in name and name.endswith('weight')), spread, shapes[name]).astype(np.float32)
    for name in sorted(shapes)
  }


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
  return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fill(model: Any, seed: int, spread: float = 0.2) -> Any:
  """The model of PyTorch with those weights, for evaluation."""
  import torch

  model.load_state_dict({name: torch.tensor(a) for name, a in weights(shapes_of(model), seed, spread).items()})
  return model.eval()


def pictures(count: int, size: int) -> np.ndarray:
  """float32[count, size, size, 3], which half precision holds exactly."""
  pixels = np.random.default_rng(SEED).normal(size=(count, size, size, 3))
  return pixels.astype(np.float16).astype(np.float32)


def texts() -> tuple[np.ndarray, np.ndarray]:
  """Tokens int32[3, 9], which end with 28, and where they are no padding, bool[3, 9]."""
  tokens = np.random.default_rng(SEED).integers(3, 28, (3, 9))
  mask = np.arange(9) < np.array([[9], [6], [4]])
  tokens[[0, 1, 2], [8, 5, 3]] = 28
  return np.where(mask, tokens, 0).astype(np.int32), mask


def to_torch(pixels: np.ndarray) -> Any:
  """[…, H, W, 3] as PyTorch has it, […, 3, H, W]."""
  import torch

  return torch.tensor(np.moveaxis(pixels, -1, -3))


def patches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of pictures of the shapes SHAPES, float32[3, 8, 48]; the shapes int32[3, 2], and what is no padding, bool[3, 8]."""
  pixels = np.random.default_rng(SEED).normal(size=(3, 8, 48)).astype(np.float16).astype(np.float32)
  shapes = np.array(SHAPES, np.int32)
  mask = np.arange(8) < shapes.prod(1)[:, None]
  return pixels * mask[..., None], shapes, mask


def make(config: dict[str, Any]) -> Any:
  """The whole model, with weights of its own making."""
  import transformers

  fields = {name: value for name, value in config.items() if name != 'model_type'}
  family = transformers.AutoConfig.for_model(config['model_type'], **fields)
  return transformers.AutoModel.from_config(family, attn_implementation='eager')


def image_inputs(config: dict[str, Any]) -> dict[str, Any]:
  """The pictures on record as the model takes them."""
  import torch

  if config['model_type'] == 'siglip2':
    pixels, shapes, mask = patches()
    return {
      'pixel_values': torch.tensor(pixels),
      'spatial_shapes': torch.tensor(shapes, dtype=torch.long),
      'pixel_attention_mask': torch.tensor(mask, dtype=torch.long),
    }
  return {'pixel_values': to_torch(pictures(2, config['vision_config']['image_size']))}


def record(config: dict[str, Any]) -> dict[str, Any]:
  """Inputs, outputs, and what is needed to make the weights again."""
  import torch

  model = fill(make(config), SEED)
  images, (tokens, mask) = image_inputs(config), texts()
  ids, attention = torch.tensor(tokens, dtype=torch.long), torch.tensor(mask, dtype=torch.long)
  with torch.no_grad():
    both = model(**images, input_ids=ids, attention_mask=attention)
    image = model.vision_model(**images, output_hidden_states=True)
    text = model.text_model(ids, attention_mask=attention, output_hidden_states=True)
    return {
      'config': json.dumps(config),
      'shapes': json.dumps(shapes_of(model)),
      'seed': SEED,
      # exact in half precision; pictures as PyTorch has them, or patches
      'pixels': images['pixel_values'].numpy().astype(np.float16),
      'grids': np.array(SHAPES, np.int32),
      'tokens': tokens,
      'mask': mask,
      'image_features': model.get_image_features(**images).pooler_output.numpy(),
      'image_states': np.stack([state.numpy() for state in image.hidden_states[1:]]),
      'text_features': model.get_text_features(ids, attention_mask=attention).pooler_output.numpy(),
      'text_states': np.stack([state.numpy() for state in text.hidden_states[1:]]),
      'logits': both.logits_per_image.numpy(),
    }


def main() -> None:
  for config in (CLIP, SIGLIP, SIGLIP2):
    np.savez_compressed(Path(__file__).with_name(f'{config["model_type"]}.npz'), **record(config))


if __name__ == '__main__':
  main()
