"""Qwen2.5-VL against `transformers` on torch, through a directory of the hub's form.

The same weights give the same tokens of pictures, logits, gradients and texts.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference import reference_clips
from crosstrainer_jax.inference.export import Export
from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.inference.trained import read_trained
from crosstrainer_jax.input import examples
from crosstrainer_jax.input.mrope import places, positions
from crosstrainer_jax.models import peft_adapter, qwen2_5_vl
from crosstrainer_jax.models.qwen2_5_vl import Qwen2_5_VL, prepare, read_config
from crosstrainer_jax.models.qwen_pixels import QwenPixels
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.inference import backbone
from tests.models import tiny_qwen
from tests.models.tiny_qwen import PICTURES, SEQUENCES, embeddings, logits, pictures_of, sequence, words_and_places

pytestmark = [
  pytest.mark.parity,
  pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing` is deprecated:FutureWarning'),
]
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
peft = pytest.importorskip('peft')

TOLERANCE = 1e-4


@pytest.fixture(scope='module')
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
  """(the reference, its directory): random weights and norms are wide, since small ones hide errors."""
  config = transformers.Qwen2_5_VLConfig(**tiny_qwen.CONFIG, attn_implementation='eager')
  torch.manual_seed(0)
  model = transformers.Qwen2_5_VLForConditionalGeneration(config)
  with torch.no_grad():
    for path, weight in model.named_parameters():
      weight.normal_(1.0 if 'norm' in path or 'ln_q' in path else 0.0, 0.2)
  directory = tmp_path_factory.mktemp('hub') / 'qwen'
  model.save_pretrained(directory, max_shard_size='40KB')
  return model.eval(), directory


@functools.cache
def load(directory: Path, adapter: Path | None = None) -> Qwen2_5_VL:
  """The model of a directory."""
  lora = None if adapter is None else peft_adapter.read_config(adapter, qwen2_5_vl.layers())
  config = read_config(directory, {'lora': lora}, lora=lora)
  graph, abstract, _ = nnx.split(nnx.eval_shape(lambda: Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param, ...)
  low, full = nnx.split_state(abstract, nnx.LoRAParam, ...)
  state = qwen2_5_vl.load(Tensors(directory), config, full)
  if adapter is not None:
    state = nnx.merge_state(state, peft_adapter.load(adapter, config, low, qwen2_5_vl.layers()))
  *_, streams = nnx.split(nnx.jit(lambda: Qwen2_5_VL(config, nnx.Rngs(0)))(), nnx.Param, ...)
  return nnx.merge(graph, state, streams)


def theirs(parts: Sequence[int | str], tokens: np.ndarray) -> dict[str, Any]:
  """The same sequence as the reference takes it."""
  given: dict[str, Any] = {'input_ids': torch.tensor(tokens), 'attention_mask': torch.ones_like(torch.tensor(tokens))}
  for kind, name, grid in ((3, 'pixel_values', 'image_grid_thw'), (4, 'pixel_values_videos', 'video_grid_thw')):
    made = [tiny_qwen.processed(PICTURES[p]) for p in parts if isinstance(p, str) and PICTURES[p].ndim == kind]
    if made:
      given[name] = torch.tensor(np.concatenate([pixels for pixels, _ in made]))
      given[grid] = torch.tensor([grid for _, grid in made])
      if kind == 4:
        given['second_per_grid_ts'] = torch.tensor([2 / tiny_qwen.FPS] * len(made))
  kinds = np.select([tokens == tiny_qwen.IMAGE, tokens == tiny_qwen.VIDEO], [1, 2], 0)
  return given | {'mm_token_type_ids': torch.tensor(kinds)}


def difference(a: Any, b: Any) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize('names', [[name] for name in PICTURES] + [list(PICTURES)], ids=' '.join)
def test_pixels_and_tokens_of_the_tower(names: list[str], reference: tuple, record_property: Callable) -> None:
  model, directory = reference
  mine = load(directory)
  made = pictures_of(mine, names)
  expected = [tiny_qwen.processed(PICTURES[name]) for name in names]
  grids = [[grid.steps, 2 * grid.rows, 2 * grid.columns] for grid in made.grids]
  assert grids == [grid for _, grid in expected]
  # every number of every patch, in the order in which the processor packs them
  patches = np.asarray(made.patches).reshape(-1, 4, mine.config.vision.patch_dim)
  packed = np.concatenate([patches[slots].reshape(-1, mine.config.vision.patch_dim) for slots in made.slots])
  pixels = np.concatenate([pixels for pixels, _ in expected])
  assert difference(packed, pixels) <= 1e-6
  with torch.no_grad():
    output = model.model.visual(torch.tensor(pixels), grid_thw=torch.tensor(grids))
  found = nnx.jit(lambda model, *given: model.see(*given))(mine, made.patches, made.positions, made.valid)
  assert output.pooler_output.std() > 0.3
  found = difference(np.asarray(found)[np.concatenate(made.slots)], output.pooler_output)
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


@pytest.mark.parametrize('name', SEQUENCES)
def test_positions_and_logits(name: str, reference: tuple, record_property: Callable) -> None:
  model, directory = reference
  mine = load(directory)
  tokens, where = words_and_places(SEQUENCES[name])
  given = theirs(SEQUENCES[name], tokens)
  if name != 'text':
    known = {key: given[key] for key in given if 'grid' in key or key in ('input_ids', 'mm_token_type_ids')}
    expected, _ = model.model.get_rope_index(**known)
    np.testing.assert_array_equal(where[0].T, expected[:, 0])
  with torch.no_grad():
    expected = model(**given).logits
  assert expected.std() > 0.3
  found = difference(logits(mine, SEQUENCES[name]), expected)
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


def test_text_goes_on_behind_the_last_moment_of_a_long_video(reference: tuple) -> None:
  """As in the training of the released weights, and where transformers 5 goes on from the last row or column."""
  model, directory = reference
  mine = load(directory)
  long = tiny_qwen.video(48, 17, 25, 9)
  pixels = QwenPixels.from_hugging_face(tiny_qwen.processor().to_dict(), mine.config.vision)
  made = prepare([long], [pixels], [tiny_qwen.FPS], mine.config.vision)
  grid = made.grids[0]
  assert (grid.steps - 1) * grid.interval > max(grid.rows, grid.columns)
  tokens = np.asarray([[1, 2, *[tiny_qwen.VIDEO] * grid.tokens, 3, 4, 5]])
  where, behind = positions([2, places(grid), 3])
  assert behind == 2 + 23 + 1 + 3
  patches, each = tiny_qwen.processed(long)
  given = {
    'input_ids': torch.tensor(tokens), 'pixel_values_videos': torch.tensor(patches),
    'video_grid_thw': torch.tensor([each]), 'position_ids': torch.tensor(where.T[:, None]),
  }  # fmt: skip
  with torch.no_grad():
    expected = model(**given).logits
  slots = np.asarray([[0, 0, *made.slots[0], 0, 0, 0]])
  x = embeddings(mine, tokens, slots, made.patches, made.positions, made.valid)
  hidden, _ = mine.decoder(x, jnp.asarray(where[None]), jnp.ones(tokens.shape, jnp.int32))
  assert difference(mine.decoder.logits(hidden), expected) <= TOLERANCE


def test_greedy_texts_are_equal(reference: tuple) -> None:
  model, directory = reference
  mine = load(directory)
  for parts in SEQUENCES.values():
    tokens, where, x = sequence(mine, parts)
    with torch.no_grad():
      expected = model.generate(**theirs(parts, tokens), max_new_tokens=12, do_sample=False, pad_token_id=0)
    # Padding on both sides, which changes nothing.
    x = jnp.pad(x, ((0, 0), (2, 3), (0, 0)))
    mask = np.pad(np.ones(tokens.shape, bool), ((0, 0), (2, 3)))
    found, _ = generate(
      mine.decoder,
      x,
      jnp.asarray(mask),
      12,
      eos_id=63,
      pad_id=0,
      positions=jnp.asarray(np.pad(where, ((0, 0), (2, 3), (0, 0)))),
    )
    ends = np.flatnonzero(np.asarray(found[0]) == 63)
    kept = slice(ends[0] if len(ends) else None)
    np.testing.assert_array_equal(found[0][kept], expected[0, tokens.shape[1] :].numpy()[kept])


TARGETS = {
  'both': ['q_proj', 'v_proj', 'qkv', 'down_proj', 'attn.proj'],
  'decoder': r'.*language_model.*\.(q_proj|gate_proj)',
}


@pytest.mark.parametrize('targets', TARGETS)
def test_adapters_of_peft(targets: str, reference: tuple, tmp_path: Path, record_property: Callable) -> None:
  _, directory = reference
  kind = transformers.Qwen2_5_VLForConditionalGeneration
  config = peft.LoraConfig(r=4, lora_alpha=10, lora_dropout=0.3, target_modules=TARGETS[targets])
  model = peft.get_peft_model(kind.from_pretrained(directory, attn_implementation='eager').eval(), config)
  torch.manual_seed(1)
  with torch.no_grad():
    for path, weight in model.named_parameters():
      if 'lora' in path:
        weight.normal_(0.0, 0.2)
  model.save_pretrained(tmp_path / 'theirs')
  model.eval()
  mine = load(directory, tmp_path / 'theirs')
  parts = SEQUENCES['mixed']
  tokens, _ = words_and_places(parts)
  given = theirs(parts, tokens)
  reference_output = model(**given, labels=torch.tensor(tokens))
  found = difference(logits(mine, parts), reference_output.logits.detach())
  assert difference(logits(load(directory), parts), reference_output.logits.detach()) > 100 * TOLERANCE

  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE
  if targets == 'decoder':  # that its pattern is understood is seen by now
    return

  reference_output.loss.backward()
  expected = {path: weight.grad.numpy() for path, weight in model.named_parameters() if weight.grad is not None}

  def loss(model: Qwen2_5_VL) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits(model, parts)[:, :-1])
    return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

  gradients = convert.flat(nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))(mine))
  table = peft_adapter.sources(mine.config, qwen2_5_vl.layers())
  assert set(gradients) == set(table)
  assert len(expected) == sum(leaf.shape[0] for leaf in gradients.values())
  for path, leaf in gradients.items():
    names = [name.replace('.weight', '.default.weight') for name in table[path].names(leaf.shape[0])]
    wanted = np.stack([expected[name].T for name in names])
    found = max(found, difference(leaf[...], wanted) / max(1.0, np.abs(wanted).max()))
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE

  adapters = nnx.state(mine, nnx.LoRAParam)
  peft_adapter.save(tmp_path / 'ours', mine.config, adapters, str(directory), qwen2_5_vl.layers())
  again = peft.PeftModel.from_pretrained(
    kind.from_pretrained(directory, attn_implementation='eager'), tmp_path / 'ours'
  )
  with torch.no_grad():
    np.testing.assert_array_equal(again.eval()(**given).logits, model(**given).logits)


def test_an_export_opens_in_transformers(small_data: Path, tmp_path: Path) -> None:
  """The whole of it, as it was trained: what it makes of the same views of the same clip is what we make of it."""
  base = backbone.write_base(tmp_path / 'base')
  run = backbone.finish(backbone.config_on(base), tmp_path / 'run', small_data)
  trained = read_trained(run)
  export = Export(trained)
  export.write(tmp_path / 'model')
  folder = tmp_path / 'model' / 'language_model'
  model, report = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    folder, attn_implementation='eager', output_loading_info=True
  )
  assert not any(report[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
  source = trained.source()
  assert source is not None
  clip = source[0]
  text, config = trained.text, trained.encoder.config
  blueprint, params = trained.load()
  seen = reference_clips.look(trained, params, source, [0])
  ids, slots = examples.prompt_ids(
    text.prompt(examples.ATTRIBUTES, 'soccer'), seen.valid[0].reshape(-1), text.video_id, text.pictures
  )
  where = examples.positions(ids, slots, text.video_id, text.pictures)
  ours = blueprint.merge(params)
  ours.row_sharding = None  # one row is not split over a mesh
  # As cached, in half precision, they would differ more than the models do.
  features = np.asarray(trained.encoder.apply(trained.encoder.params, jnp.asarray(clip.frames)))
  np.testing.assert_allclose(features, seen.features[0], rtol=0, atol=2e-3)
  batch = {'tokens': ids[None], 'video_slots': slots[None], 'features': features[None]}
  hidden, _ = ours.decoder(ours.embed(batch), where[None], np.ones((1, len(ids)), np.int32))

  video_id = model.config.video_token_id
  tokens = np.where(ids == text.video_id, video_id, ids)[None]
  size = (config.image_size, config.image_size)
  squares = dataclasses.replace(config.preprocessing, resize=size).pixels(jnp.asarray(clip.frames))
  patches, grids = [], []
  for view in np.asarray(squares):
    pixels, grid = tiny_qwen.processed(view)
    patches.append(pixels)
    grids.append(grid)
  assert len(patches) == seen.valid.shape[1]
  given = {
    'input_ids': torch.tensor(tokens), 'attention_mask': torch.ones(tokens.shape, dtype=torch.long),
    'pixel_values_videos': torch.tensor(np.concatenate(patches)), 'video_grid_thw': torch.tensor(grids),
    'position_ids': torch.tensor(where.T[:, None]),
  }  # fmt: skip
  with torch.no_grad():
    tower = model.model.visual(given['pixel_values_videos'], grid_thw=given['video_grid_thw']).pooler_output
    single = model.eval()(**given).logits
    exact = model.double()(**given | {'pixel_values_videos': given['pixel_values_videos'].double()}).logits
  video_tokens = np.asarray(ours.video_tokens({'features': features[None]})).reshape(tower.shape)
  assert difference(video_tokens, tower) <= TOLERANCE
  # These weights are wide, and the sequence is long: in single precision the reference itself is off by 5e-4.
  assert exact.std() > 0.3
  assert difference(ours.decoder.logits(hidden), exact) <= 5 * difference(single, exact)
