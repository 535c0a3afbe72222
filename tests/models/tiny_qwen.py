"""A Qwen2.5-VL of few numbers, its pictures and videos, and what its processor makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from crosstrainer_jax.input.mrope import Grid, places, positions
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.qwen2_5_vl import Pictures, Qwen2_5_VL, prepare
from crosstrainer_jax.models.qwen_pixels import QwenPixels

IMAGE, VIDEO, START, END = 60, 61, 58, 59
TEXT: dict[str, Any] = {
  'vocab_size': 64, 'hidden_size': 32, 'intermediate_size': 56, 'num_hidden_layers': 3, 'num_attention_heads': 4,
  'num_key_value_heads': 2, 'max_position_embeddings': 512, 'rms_norm_eps': 1e-3, 'bos_token_id': None,
  'eos_token_id': None, 'pad_token_id': None,
  'rope_parameters': {'rope_type': 'default', 'rope_theta': 100.0, 'mrope_section': [1, 1, 2]},
}  # fmt: skip
# Windows of 2 x 2 merged tokens, so that small pictures have several, and some that are not full.
VISION: dict[str, Any] = {
  'depth': 4, 'hidden_size': 32, 'intermediate_size': 44, 'num_heads': 2, 'patch_size': 4, 'window_size': 16,
  'fullatt_block_indexes': [1, 3], 'out_hidden_size': 32, 'tokens_per_second': 2,
}  # fmt: skip
CONFIG: dict[str, Any] = {
  'model_type': 'qwen2_5_vl', 'text_config': TEXT | {'model_type': 'qwen2_5_vl_text'},
  'vision_config': VISION | {'model_type': 'qwen2_5_vl_vision'}, 'image_token_id': IMAGE, 'video_token_id': VIDEO,
  'vision_start_token_id': START, 'vision_end_token_id': END, 'tie_word_embeddings': False,
}  # fmt: skip


def processor(**settings: Any) -> Qwen2VLImageProcessorPil:
  """Of pictures that become 64 to 1,200 pixels."""
  return Qwen2VLImageProcessorPil(patch_size=4, size={'shortest_edge': 64, 'longest_edge': 1200}, **settings)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
  """uint8[height, width, 3]."""
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def video(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
  """uint8[frames, height, width, 3]."""
  return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def processed(frames: np.ndarray) -> tuple[np.ndarray, list[int]]:
  """`pixel_values` and grid of a picture, or of a video, by the processor.

  The processor of videos needs torchvision. A video is put together from what the one of pictures makes of each frame:
  it shows a picture twice, and of a patch one half is taken from each of two frames.
  """
  if frames.ndim == 3:
    made = processor()([frames], return_tensors='np')
    return made['pixel_values'], made['image_grid_thw'][0].tolist()
  made = [processor()([frame], return_tensors='np') for frame in (*frames, *[frames[-1]] * (len(frames) % 2))]
  cut = np.stack([each['pixel_values'].reshape(-1, 3, 2, 4, 4)[:, :, 0] for each in made])
  paired = np.stack([cut[::2], cut[1::2]], 3)
  _, rows, columns = made[0]['image_grid_thw'][0].tolist()
  return paired.reshape(-1, 3 * 2 * 4 * 4), [len(paired), rows, columns]


PICTURES = {
  'wide': picture(21, 60, 1), 'square': picture(24, 24, 2), 'small': picture(5, 9, 3),
  'large': picture(90, 40, 4), 'video': video(4, 17, 25, 5), 'odd': video(5, 24, 24, 6),
}  # fmt: skip
# One sequence each: numbers of words, and pictures between them.
SEQUENCES: dict[str, list[int | str]] = {
  'one picture': [3, 'wide', 4],
  'several pictures': [1, 'square', 2, 'small', 'large', 3],
  'video': [2, 'video', 5],
  'mixed': [2, 'odd', 1, 'wide', 'video', 4],
  'text': [9],
}
# Two time steps lie so far apart as two rows, so that no video lasts longer than it is wide.
FPS = 4.0


def grid_of(name: str) -> Grid:
  """Merged tokens of a picture."""
  _, (steps, rows, columns) = processed(PICTURES[name])
  return Grid(steps, rows // 2, columns // 2, 2 * VISION['tokens_per_second'] / FPS)


def words_and_places(parts: Sequence[int | str]) -> tuple[np.ndarray, np.ndarray]:
  """tokens int32[1, L] and positions int32[1, L, 3] of a sequence."""
  tokens: list[int] = []
  parts_of_it: list[int | np.ndarray] = []
  for seed, part in enumerate(parts):
    if isinstance(part, int):
      tokens += np.random.default_rng(seed).integers(0, 50, part).tolist()
      parts_of_it.append(part)
    else:
      grid = grid_of(part)
      tokens += [START, *[VIDEO if PICTURES[part].ndim == 4 else IMAGE] * grid.tokens, END]
      parts_of_it += [1, places(grid), 1]
  return np.asarray([tokens]), positions(parts_of_it)[0][None]


def pictures_of(model: Qwen2_5_VL, names: Sequence[str]) -> Pictures:
  """The pictures as the model takes them."""
  pixels = QwenPixels.from_hugging_face(processor().to_dict(), model.config.vision)
  return prepare([PICTURES[name] for name in names], [pixels] * len(names), [FPS] * len(names), model.config.vision)


def sequence(model: Qwen2_5_VL, parts: Sequence[int | str]) -> tuple[np.ndarray, np.ndarray, jax.Array]:
  """tokens int32[1, L], positions int32[1, L, 3] and embeddings float[1, L, D] of a sequence."""
  tokens, places = words_and_places(parts)
  named = [part for part in parts if isinstance(part, str)]
  if not named:
    return tokens, places, model.decoder.embed(jnp.asarray(tokens))
  made = pictures_of(model, named)
  slots = np.zeros(tokens.shape, np.int32)
  slots[(tokens == IMAGE) | (tokens == VIDEO)] = np.concatenate(made.slots)
  return tokens, places, embeddings(model, tokens, slots, made.patches, made.positions, made.valid)


@nnx.jit
def embeddings(model: Qwen2_5_VL, tokens: jax.Array, slots: jax.Array, *pictures: jax.Array) -> jax.Array:
  return model.embed(tokens, model.see(*pictures), slots)


def logits(model: Qwen2_5_VL, parts: Sequence[int | str]) -> jax.Array:
  """float32[1, L, vocab]."""
  tokens, places, x = sequence(model, parts)
  return _logits(model.decoder, x, places, np.ones(tokens.shape, np.int32))


@nnx.jit
def _logits(decoder: Decoder, x: jax.Array, places: jax.Array, segments: jax.Array) -> jax.Array:
  return decoder.logits(decoder(x, places, segments)[0])


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
  """Random weights float32 by name, in the order of the names: wide, since small ones hide errors."""
  rng = np.random.default_rng(0)
  return {
    name: rng.normal(float('norm' in name or 'ln_q' in name), 0.2, shapes[name]).astype(np.float32)
    for name in sorted(shapes)
  }
