"""Qwen2.5-VL as the hub has it: its config in both forms, and a record of the reference without PyTorch."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from transformers import AutoConfig

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.models import qwen2_5_vl
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.qwen2_5_vl import FORMS, Qwen2_5_VL, Qwen2_5_VLConfig, model_config, prepare, sources
from crosstrainer_jax.weights.convert import flat
from crosstrainer_jax.weights.tensors import Tensors
from tests.models import tiny_qwen

GOLDEN = Path(__file__).parent.parent / 'golden' / 'qwen2_5_vl.npz'
TOLERANCE = 5e-5
# config.json of Qwen2.5-VL-7B-Instruct, as it is published.
SEVEN_BILLION = {
  'architectures': ['Qwen2_5_VLForConditionalGeneration'], 'attention_dropout': 0.0, 'bos_token_id': 151643,
  'eos_token_id': 151645, 'vision_start_token_id': 151652, 'vision_end_token_id': 151653, 'vision_token_id': 151654,
  'image_token_id': 151655, 'video_token_id': 151656, 'hidden_act': 'silu', 'hidden_size': 3584,
  'initializer_range': 0.02, 'intermediate_size': 18944, 'max_position_embeddings': 128000, 'max_window_layers': 28,
  'model_type': 'qwen2_5_vl', 'num_attention_heads': 28, 'num_hidden_layers': 28, 'num_key_value_heads': 4,
  'rms_norm_eps': 1e-06, 'rope_theta': 1000000.0, 'sliding_window': 32768, 'tie_word_embeddings': False,
  'torch_dtype': 'bfloat16', 'transformers_version': '4.41.2', 'use_cache': True, 'use_sliding_window': False,
  'vision_config': {
    'depth': 32, 'hidden_act': 'silu', 'hidden_size': 1280, 'intermediate_size': 3420, 'num_heads': 16, 'in_chans': 3,
    'out_hidden_size': 3584, 'patch_size': 14, 'spatial_merge_size': 2, 'spatial_patch_size': 14, 'window_size': 112,
    'fullatt_block_indexes': [7, 15, 23, 31], 'tokens_per_second': 2, 'temporal_patch_size': 2,
  },
  'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]}, 'vocab_size': 152064,
}  # fmt: skip


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The folder of the model on record, in the form of the hub."""
  folder = tmp_path_factory.mktemp('qwen')
  shapes = json.loads(str(np.load(GOLDEN)['shapes']))
  save_file(tiny_qwen.weights(shapes), folder / 'model.safetensors')
  (folder / 'config.json').write_text(json.dumps(tiny_qwen.CONFIG))
  return folder


def load(folder: Path) -> Qwen2_5_VL:
  config = qwen2_5_vl.read_config(folder)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param)
  return nnx.merge(graph, qwen2_5_vl.load(Tensors(folder), config, abstract))


def test_the_reference_on_record(checkpoint: Path) -> None:
  """tests/golden/make_qwen2_5_vl.py wrote what `transformers` computes; here it is computed without PyTorch."""
  golden = np.load(GOLDEN)
  mine, parts = load(checkpoint), tiny_qwen.SEQUENCES['mixed']
  tokens, places, x = tiny_qwen.sequence(mine, parts)
  np.testing.assert_array_equal(tokens, golden['tokens'])
  np.testing.assert_array_equal(places, golden['positions'])
  np.testing.assert_allclose(tiny_qwen.logits(mine, parts), golden['logits'], rtol=0, atol=TOLERANCE)
  mask = jnp.ones(tokens.shape, bool)
  written, _ = generate(mine.decoder, x, mask, 10, eos_id=63, pad_id=0, positions=jnp.asarray(places))
  assert len(set(golden['written'].tolist())) > 2
  np.testing.assert_array_equal(written[0], golden['written'])


@pytest.mark.parametrize(
  ('part', 'change'),
  [
    ('vision', {'fullatt_block_indexes': (1,)}),
    ('vision', {'window_size': 32}),
    ('vision', {'num_heads': 4}),
    ('vision', {'hidden_act': 'gelu'}),
    ('text', {'mrope_section': (2, 1, 1)}),
    ('text', {'rope_theta': 1000.0}),
  ],
  ids=str,
)
def test_a_changed_field_shows(part: str, change: dict, checkpoint: Path) -> None:
  """The comparison with the record would notice."""
  config = qwen2_5_vl.read_config(checkpoint)
  config = dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **change)})
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param)
  changed = nnx.merge(graph, qwen2_5_vl.load(Tensors(checkpoint), config, abstract))
  found = tiny_qwen.logits(changed, tiny_qwen.SEQUENCES['mixed'])
  assert np.abs(found - np.load(GOLDEN)['logits']).max() > 10 * TOLERANCE


def test_names_of_the_hub(checkpoint: Path, tmp_path: Path) -> None:
  """Published files say `visual.` and `model.`, where transformers says `model.visual.` and `model.language_model.`"""
  old = {}
  for name, tensor in Tensors(checkpoint).items():
    for theirs, ours in zip(FORMS[1], FORMS[0], strict=True):
      name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
    old[name] = tensor.read()
  assert 'visual.blocks.0.attn.qkv.weight' in old
  assert 'model.layers.0.mlp.up_proj.weight' in old
  save_file(old, tmp_path / 'model.safetensors')
  flat_form = {key: value for key, value in tiny_qwen.CONFIG.items() if key != 'text_config'}
  flat_form |= {key: value for key, value in tiny_qwen.CONFIG['text_config'].items() if key != 'model_type'}
  (tmp_path / 'config.json').write_text(json.dumps(flat_form))
  one, other = load(checkpoint), load(tmp_path)
  assert one.config == other.config
  for path, leaf in flat(nnx.state(one, nnx.Param)).items():
    np.testing.assert_array_equal(leaf[...], flat(nnx.state(other, nnx.Param))[path][...])


def test_the_published_config() -> None:
  config = model_config(SEVEN_BILLION, max_position=4096, dtype='bfloat16', vision={'dtype': 'bfloat16'})
  text, vision = config.text, config.vision
  assert (text.hidden_size, text.num_layers, text.num_heads, text.num_kv_heads, text.head_dim) == (3584, 28, 28, 4, 128)
  assert (text.mrope_section, text.rope_theta, text.qkv_bias, text.sliding_window) == ((16, 24, 24), 1e6, True, 0)
  assert (vision.hidden_size, vision.head_dim, vision.feature_dim, vision.unit) == (1280, 80, 5120, 28)
  assert (vision.fullatt_block_indexes, vision.tokens_per_second, vision.window_side) == ((7, 15, 23, 31), 2, 4)
  assert (config.image_token_id, config.video_token_id) == (151655, 151656)


def test_all_that_transformers_writes_is_read() -> None:
  fields = {name: value for name, value in tiny_qwen.CONFIG.items() if name != 'model_type'}
  config = AutoConfig.for_model('qwen2_5_vl', **fields)
  assert model_config(config.to_dict()) == model_config(tiny_qwen.CONFIG)
  assert model_config(config.to_diff_dict()) == model_config(tiny_qwen.CONFIG)


def changed(section: str, **fields: object) -> dict:
  if not section:
    return tiny_qwen.CONFIG | fields
  return tiny_qwen.CONFIG | {section: tiny_qwen.CONFIG[section] | fields}


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (changed('', model_type='qwen2_vl'), "model_type = 'qwen2_vl' is not supported; supported: qwen2_5_vl"),
    (changed('vision_config', embed_dim=3), r"vision_config has \{'embed_dim': 3\}, which is not known here"),
    (changed('vision_config', out_hidden_size=16), 'out_hidden_size=16 of the tower, but L has hidden_size=32'),
    (changed('vision_config', rope_parameters={'rope_theta': 5.0}), 'rope_parameters = .* of the tower is not support'),
    (changed('vision_config', patch_size=[4, 4]), r'patch_size = \[4, 4\] is not supported'),
    (changed('vision_config', num_heads=3), 'vision_config: num_heads=3 does not divide'),
    (changed('text_config', hidden_act='gelu'), "hidden_act = 'gelu' is not supported"),
    (
      changed('text_config', rope_parameters={'rope_type': 'default', 'mrope_section': [1, 1, 1]}),
      r'mrope_section = \(1, 1, 1\) does not share 4 rotary frequencies',
    ),
  ],
)
def test_what_would_change_the_result_is_refused_by_name(fields: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    model_config(fields)


def test_every_parameter_has_a_source() -> None:
  for tied in (False, True):
    config = model_config(changed('', tie_word_embeddings=tied))
    state = nnx.state(nnx.eval_shape(lambda config=config: Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param)
    for names in FORMS:
      assert set(sources(config, names)) == set(flat(state))


def test_adapters_have_one_setting() -> None:
  config = model_config(tiny_qwen.CONFIG, lora=LoRAConfig(rank=2))
  assert config.lora == LoRAConfig(rank=2)
  with pytest.raises(ValueError, match='adapters of the tower and of L have one setting for both'):
    Qwen2_5_VLConfig(dataclasses.replace(config.vision, lora=LoRAConfig(rank=3)), config.text)


def test_pictures_of_any_shape_share_a_batch(checkpoint: Path) -> None:
  mine = load(checkpoint)
  made = tiny_qwen.pictures_of(mine, list(tiny_qwen.PICTURES))
  assert len(made.patches) == sum(grid.steps for grid in made.grids)
  assert [len(slots) for slots in made.slots] == [grid.tokens for grid in made.grids]
  see = nnx.jit(lambda model, *given: model.see(*given))
  together = np.asarray(see(mine, made.patches, made.positions, made.valid))
  for number, name in ((0, 'wide'), (4, 'video')):
    assert list(tiny_qwen.PICTURES)[number] == name
    alone = tiny_qwen.pictures_of(mine, [name])
    expected = np.asarray(see(mine, alone.patches, alone.positions, alone.valid))[alone.slots[0]]
    np.testing.assert_allclose(together[made.slots[number]], expected, rtol=0, atol=2e-5, err_msg=name)


def test_what_is_no_picture_is_refused(checkpoint: Path) -> None:
  mine = load(checkpoint)
  with pytest.raises(ValueError, match=r'a picture is uint8\[H, W, 3\]'):
    prepare([np.zeros((2, 2))], [None], [1.0], mine.config.vision)
