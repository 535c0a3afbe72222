"""Pretraining writes weights that load, and the shipped ones say how they were made."""

import hashlib
import json
import subprocess
import sys

from safetensors import safe_open

from crosstrainer_jax.models import encoders


def test_a_few_updates_make_weights_that_load(tmp_path):
  command = [sys.executable, '-m', 'crosstrainer_jax.pretrain', '--workdir', str(tmp_path)]
  small = {'steps': 3, 'batch_size': 8, 'test_clips': 8, 'encoder.model.width': 16, 'encoder.model.channels': 8}
  small |= {'encoder.model.layers': 1}
  done = subprocess.run(
    [*command, *(f'--config.{name}={value}' for name, value in small.items()), '--config.seconds=(1,)'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  path = tmp_path / encoders.SHIPPED
  assert encoders.load(path).config.width == 16
  assert 'unexplained variance, all' in done.stdout
  digest, name = (tmp_path / 'sha256.txt').read_text().split()
  assert (digest, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


def test_the_shipped_encoder_tells_its_origin_and_fits_its_page():
  encoder = encoders.load()
  folder = encoders.shipped_path().parent
  assert encoders.shipped_path().stat().st_size <= 5 * 2**20
  assert encoder.config.image_size == 64
  with safe_open(str(encoders.shipped_path()), 'numpy') as file:
    header = file.metadata()
  assert header['command'].startswith('python -m crosstrainer_jax.pretrain')
  log = json.loads(header['log'])
  assert log['unexplained_variance']['all'] < 0.7
  digest = hashlib.sha256(encoders.shipped_path().read_bytes()).hexdigest()
  assert digest in (folder / 'README.md').read_text()
