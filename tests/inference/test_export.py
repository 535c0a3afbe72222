"""What is in the folder of an export: all that another program needs, whole, and equal to what the run holds."""

import dataclasses
import json
import math
import shutil

import jax
import ml_collections
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from crosstrainer_jax.inference import export
from crosstrainer_jax.inference.export import Export
from crosstrainer_jax.inference.trained import read_trained
from crosstrainer_jax.input.tokenizer import load_tokenizer
from crosstrainer_jax.models import encoders, lora, peft_adapter
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.llama_family import ignored, read_config, sources
from crosstrainer_jax.models.mapper import Mapper
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.inference import finished_runs
from tests.models import hub_directories


@pytest.fixture(scope='module')
def made(small_run):
  return Export(read_trained(small_run), clips=2)


@pytest.fixture(scope='module')
def folder(made, tmp_path_factory):
  folder = tmp_path_factory.mktemp('exported') / 'deep' / 'model'
  made.write(folder)
  return folder


@pytest.fixture(scope='module')
def adapted(small_data, tmp_path_factory):
  """(run, export) with LoRA on a pretrained decoder in bfloat16."""
  root = tmp_path_factory.mktemp('adapted')
  base = finished_runs.write_base(root / 'base', 'llama3', 'bfloat16')
  (base / 'README.md').write_text('---\nlicense: llama3.1\n---\n')
  (base / 'LICENSE.txt').write_text('Terms')
  finished_runs.finish(finished_runs.config_on(base), root / 'run', small_data)
  made = Export(read_trained(root / 'run'))
  made.write(root / 'model')
  return made, root


def read(path):
  return json.loads(path.read_text())


def decoder_of(directory, dtype='float32'):
  config = read_config(directory, dtype='float32', param_dtype=dtype)
  abstract = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  return config, convert.load(Tensors(directory), sources(config), abstract, ignored(config))


def test_everything_is_there(made, folder):
  assert {path.name for path in folder.iterdir()} == {
    'README.md', 'clips.safetensors', 'encoder.json', 'encoder.safetensors', 'expected.json', 'language_model',
    'licences.md', 'mapper.safetensors', 'preprocessing.json', 'probe.safetensors', 'prompts.json',
  }  # fmt: skip
  assert {part.name.rstrip('/') for part in made.parts()} == {path.name for path in folder.iterdir()}
  readable = {path.stat().st_mode & 0o777 for path in folder.rglob('*') if path.is_file()}
  assert len(readable) == 1


def test_sizes_are_told_beforehand(made, folder):
  for part in made.parts():
    path = folder / part.name
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    assert 0.4 * size <= part.size + 1000 <= 2.5 * size + 3000, part.name


def test_the_language_model_comes_back(made, folder):
  """Written from a config of our own, and read as any directory of the hub is."""
  trained, directory = made.trained, folder / 'language_model'
  config, loaded = decoder_of(directory)
  same = ('vocab_size', 'hidden_size', 'num_layers', 'head_dim', 'rope_theta', 'rms_norm_eps', 'tie_embeddings')
  assert all(getattr(config, name) == getattr(trained.decoder, name) for name in same)
  ours = convert.flat(made.model[1]['decoder'])
  for path, leaf in convert.flat(loaded).items():
    np.testing.assert_array_equal(leaf[...], ours[path][...], path)
  words = load_tokenizer(directory)
  text = 'Give feedback, </s> or not.'
  assert words.encode(text, add_special_tokens=False) == trained.text.words.encode(text, add_special_tokens=False)
  assert read(directory / 'generation_config.json')['eos_token_id'] == list(trained.text.ends)


def test_the_mapper_in_the_layout_of_torch(made, folder):
  """fc2(gelu(fc1((x − mean) @ matrix))) with weights [outputs, inputs]."""
  tensors, params = load_file(folder / 'mapper.safetensors'), made.model[1]['mapper']
  hidden, features = tensors['fc1.weight'].shape
  mapper = nnx.eval_shape(lambda: Mapper(features, hidden, rngs=nnx.Rngs(0), whitened=True))
  nnx.update(mapper, params)
  x = np.random.default_rng(0).normal(size=(5, features)).astype(np.float32)
  y = (x - tensors['whitening.mean']) @ tensors['whitening.matrix']
  y = y @ tensors['fc1.weight'].T + tensors['fc1.bias']
  erf = np.vectorize(math.erf)
  y = y * 0.5 * (1 + erf(y / np.sqrt(2)))
  y = y @ tensors['fc2.weight'].T + tensors['fc2.bias']
  np.testing.assert_allclose(mapper(x), y, rtol=1e-4, atol=1e-4)
  assert tensors['whitening.mean'].any()


def test_the_probe_in_the_layout_of_torch(made, folder):
  tensors, probe = load_file(folder / 'probe.safetensors'), made.trained.probe
  v = np.random.default_rng(0).normal(size=(3, tensors['weight'].shape[1])).astype(np.float32)
  np.testing.assert_allclose(v @ tensors['weight'].T + tensors['bias'], probe.logits(v), rtol=1e-4, atol=1e-5)


def test_the_encoder_that_is_shipped_comes_along(made, folder):
  facts = read(folder / 'encoder.json')
  encoder = encoders.load(folder / facts['file'])
  assert encoder.fingerprint == facts['fingerprint'] == made.trained.card.encoder
  assert not facts['trained_with_the_rest']


def test_an_adapter_is_merged_and_comes_along(adapted):
  made, root = adapted
  directory = root / 'model' / 'language_model'
  fields, before = read(directory / 'config.json'), read(root / 'base' / 'config.json')
  assert fields == before
  assert fields['torch_dtype'] == 'bfloat16'
  assert {tensor.dtype.name for tensor in Tensors(directory).values()} == {'bfloat16'}
  config, params = made.trained.decoder, made.model[1]['decoder']
  _, loaded = decoder_of(directory, 'bfloat16')
  ours, there = convert.flat(params), convert.flat(loaded)
  for path, leaf in there.items():
    value, place = np.asarray(ours[path][...], np.float32), path.removesuffix('/kernel')
    if f'{place}/lora_a' in ours:
      a, b = (np.asarray(ours[f'{place}/{name}'][...]) for name in ('lora_a', 'lora_b'))
      value = value + config.lora.scale * a @ b
      assert np.abs(np.asarray(ours[path][...], np.float32) - value).max() > 0.1
    np.testing.assert_allclose(np.asarray(leaf[...], np.float32), value, rtol=2**-8, atol=1e-5)
  adapter = peft_adapter.read_config(root / 'model' / 'adapter')
  assert (adapter.rank, adapter.scale) == (4, config.lora.scale)
  like = nnx.split_state(params, nnx.LoRAParam, ...)[0]
  for path, leaf in convert.flat(peft_adapter.load(root / 'model' / 'adapter', config, like)).items():
    np.testing.assert_array_equal(leaf[...], ours[path][...])


def test_one_device_writes_the_same(adapted, tmp_path):
  made, root = adapted
  assert made.trained.mesh.size == 8
  one = Export(dataclasses.replace(made.trained))
  one.trained.__dict__['mesh'] = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  for part in one.parts():
    if part.name in ('language_model/', 'adapter/', 'mapper.safetensors'):
      part.write(tmp_path / part.name)
      for path in (tmp_path / part.name).rglob('*.safetensors'):
        assert path.read_bytes() == (root / 'model' / path.relative_to(tmp_path)).read_bytes()


def test_a_base_in_4_bits_is_merged_as_it_was(small_data, tmp_path):
  base = finished_runs.write_base(tmp_path / 'base', 'plain')
  config = finished_runs.config_on(base, 'decoder.quantize=nf4', 'decoder.quantize_tile=4')
  made = Export(read_trained(finished_runs.finish(config, tmp_path / 'run', small_data)))
  made.write(tmp_path / 'model')
  _, loaded = decoder_of(tmp_path / 'model' / 'language_model')
  linear = made.model[0].merge(made.model[1]).decoder.layers.mlp.up_proj
  whole = lora.merged(linear.kernel.dequantized(), linear.lora_a[...], linear.lora_b[...], linear.scale)
  np.testing.assert_allclose(loaded['layers']['mlp']['up_proj']['kernel'][...], whole, atol=1e-5)
  first = Tensors(base)['model.layers.0.mlp.up_proj.weight'].read().T
  assert 0.005 < np.abs(linear.kernel.dequantized()[0] - first).max() < 0.2
  assert 'trained beside kernels in nf4' in (tmp_path / 'model' / 'README.md').read_text()


def test_what_is_said_of_a_pretrained_base(adapted):
  _, root = adapted
  assert (root / 'model' / 'language_model' / 'LICENSE.txt').read_text() == 'Terms'
  assert '| L: base | llama3.1 |' in (root / 'model' / 'licences.md').read_text()
  card = (root / 'model' / 'README.md').read_text()
  assert 'license: unknown' in card
  assert 'from `base`, with LoRA of rank 4' in card
  assert str(root) not in card
  assert not (root / 'model' / 'probe.safetensors').exists()
  assert read(root / 'model' / 'prompts.json')['levels'] is None


def test_an_adapter_of_a_base_that_trained_too_is_only_merged(adapted):
  made, root = adapted
  config = ml_collections.ConfigDict(read(root / 'run' / 'config.json'))
  for frozen, expected in ((('^decoder/(?!.*lora_)',), True), ((), False), (('^decoder/layers/mlp',), False)):
    config.training.frozen = frozen
    names = {part.name for part in Export(read_trained(root / 'run', config)).parts()}
    assert ('adapter/' in names) == expected
    assert 'language_model/' in names


def test_another_type_is_written_and_said(adapted, tmp_path):
  made, root = adapted
  wide = Export(read_trained(root / 'run'), dtype='float32')
  wide.write(tmp_path / 'wide')
  directory = tmp_path / 'wide' / 'language_model'
  assert {tensor.dtype.name for tensor in Tensors(directory).values()} == {'float32'}
  assert read(directory / 'config.json')['torch_dtype'] == 'float32'
  with pytest.raises(ValueError, match='--clips -1: a number'):
    Export(read_trained(root / 'run'), clips=-1)
  with pytest.raises(ValueError, match='--dtype int8: one of float32, bfloat16, float16'):
    Export(read_trained(root / 'run'), dtype='int8')


def test_an_encoder_that_trained_is_written_as_it_became(small_run, small_data, tmp_path):
  config = ml_collections.ConfigDict(read(small_run / 'config.json'))
  config.encoder.source = 'frames'
  config.encoder.batch_size = 8
  config.training.frozen = ()
  workdir = finished_runs.finish(config, tmp_path / 'run', small_data)
  made = Export(read_trained(workdir), clips=1)
  made.write(tmp_path / 'model')
  facts = read(tmp_path / 'model' / 'encoder.json')
  assert facts['trained_with_the_rest']
  encoder, ours = encoders.load(tmp_path / 'model' / facts['file']), convert.flat(made.model[1]['encoder'])
  assert encoder.fingerprint != facts['fingerprint']
  for path, leaf in convert.flat(encoder.params).items():
    np.testing.assert_array_equal(leaf[...], ours[path][...], path)
  assert (tmp_path / 'model' / 'expected.json').is_file()


def test_an_encoder_of_the_hub_that_trained_is_written_too(small_data, tmp_path):
  base = finished_runs.write_base(tmp_path / 'base', 'plain', _name_or_path=str(tmp_path / 'base'))
  clip = hub_directories.write_clip(tmp_path / 'clip')
  config = finished_runs.config_on(base, f'encoder.weights={clip}', 'encoder.fps=4', 'encoder.source=frames')
  workdir = finished_runs.finish(config, tmp_path / 'run', small_data)
  (workdir / 'report.md').write_text(
    f'# Title\n\nCommand: python x.py --config.encoder.weights={clip} {workdir}/a.txt\n'
  )
  made = Export(read_trained(workdir))
  made.write(tmp_path / 'model')
  facts = read(tmp_path / 'model' / 'encoder.json')
  assert (facts['file'], facts['weights']) == ('encoder.safetensors', 'clip')
  loaded, ours = encoders.load(tmp_path / 'model' / facts['file']), made.trained.trained_encoder(made.model[1])
  assert (loaded.name, loaded.config, loaded.resizes, loaded.by_second) == ('clip', ours.config, True, True)
  frames = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), np.uint8)
  found, expected = (encoder.apply(encoder.params, frames) for encoder in (loaded, ours))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert np.abs(found - np.asarray(ours.apply(made.trained.encoder.params, frames))).max() > 0.1
  # Where files lie on this machine is nobody's business.
  assert read(tmp_path / 'model' / 'adapter' / 'adapter_config.json')['base_model_name_or_path'] == 'base'
  assert 'Command: python x.py --config.encoder.weights=clip a.txt' in (tmp_path / 'model' / 'README.md').read_text()
  for path in (tmp_path / 'model').rglob('*'):
    assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path


def test_clips_need_the_dataset(small_run, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(small_run, copy, ignore=shutil.ignore_patterns('rows', 'folds', 'tensorboard', 'checkpoints'))
  path = copy / 'environment.json'
  path.write_text(json.dumps(read(path) | {'dataset': '/nowhere'}))
  with pytest.raises(ValueError, match='--clips 3: the dataset .* is no longer at /nowhere'):
    Export(read_trained(copy), clips=3)
  parts = Export(read_trained(copy)).parts()
  assert 'clips.safetensors' not in {part.name for part in parts}


def test_clips_are_looked_at_before_l_is_written(made, tmp_path, monkeypatch):
  fresh, written = Export(made.trained, clips=2), []

  def gone(*_):
    raise FileNotFoundError('this video is not there any more')

  monkeypatch.setattr(export.reference_clips, 'look', gone)
  monkeypatch.setattr(export, 'write_shards', lambda *_: written.append(1))
  with pytest.raises(FileNotFoundError, match='not there any more'):
    fresh.write(tmp_path / 'model')
  assert not written


def test_too_little_room_is_said_first(made, tmp_path, monkeypatch):
  (tmp_path / '.model.abcd_123').mkdir()
  monkeypatch.setattr(export.shutil, 'disk_usage', lambda _: type('Usage', (), {'free': 10}))
  with pytest.raises(OSError, match=r'are to be written, but only 0.0 GB are free. .*\.model\.abcd_123 \(0.0 GB\)'):
    made.write(tmp_path / 'model')
  assert [path.name for path in tmp_path.iterdir()] == ['.model.abcd_123']


def test_a_family_that_nobody_has_is_refused_before_anything_is_written(made, tmp_path, monkeypatch):
  odd = dataclasses.replace(made._decoder, o_bias=True)
  monkeypatch.setitem(made.__dict__, '_decoder', odd)
  with pytest.raises(ValueError, match='no family of llama, mistral, qwen2, qwen3 has'):
    made.parts()
