"""Files that torch.save writes, read without torch: the same names and the same numbers."""

import argparse
import datetime
import functools
import pathlib
import shlex
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from crosstrainer_jax.weights.tensors import Tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')


class Settings:
  """A class that the reader does not know, with a state of its own."""

  def __init__(self) -> None:
    self.folder = pathlib.Path('runs')
    self.started = datetime.datetime(2024, 1, 2)
    self.arguments = argparse.Namespace(rate=1e-3, gpus=[0, 1])
    self.make = functools.partial(OrderedDict, name='x')
    self.chosen = {'b', 'a'}
    self.deviation = np.float64(0.1)
    self.table = np.arange(3)


def check(path: pathlib.Path, content: Any, expected: dict[str, Any]) -> None:
  """Writes `content` and compares with `expected`, bit by bit."""
  torch.save(content, path)
  found = Tensors(path)
  assert list(found) == list(expected)
  for name, tensor in expected.items():
    read = found[name].read()
    wanted = tensor.detach()
    if wanted.dtype == torch.bfloat16:
      assert read.dtype == ml_dtypes.bfloat16
      read, wanted = read.view(np.int16), wanted.contiguous().view(torch.int16)
    assert read.shape == tuple(wanted.shape)
    assert read.dtype == wanted.numpy().dtype
    np.testing.assert_array_equal(read, wanted.numpy(), err_msg=name)


def numbers(*shape: int) -> torch.Tensor:
  return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
  'dtype', ['float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool']
)
def test_types(dtype: str, tmp_path: pathlib.Path) -> None:
  tensor = (10 * numbers(3, 5)).to(getattr(torch, dtype))
  check(tmp_path / 'x.pth', {'w': tensor}, {'w': tensor})


def test_views(tmp_path: pathlib.Path) -> None:
  """Strided, transposed, overlapping, expanded, empty and scalar views of one storage."""
  base = numbers(6, 8)
  views = {
    'base': base,
    'transposed': base.T,
    'rows': base[1:5:2],
    'columns': base[:, 3],
    'every_third': base[:, 1::3],
    'permuted': base.reshape(2, 3, 8).permute(2, 0, 1),
    'expanded': base[2:3].expand(4, 8),
    'windows': base.flatten().unfold(0, 4, 3),
    'channels_last': numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
    'scalar': base[3, 4],
    'empty': base[:0],
    'half': base.to(torch.bfloat16).T[2:],
  }
  check(tmp_path / 'x.bin', views, views)


def test_a_state_dict_with_metadata(tmp_path: pathlib.Path) -> None:
  """An OrderedDict with an attribute, as modules give it; tied parameters share their storage."""
  model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))
  model[2].weight = model[0].weight
  state = model.state_dict()
  assert state._metadata
  check(tmp_path / 'pytorch_model.bin', state, dict(state))


def test_parameters(tmp_path: pathlib.Path) -> None:
  frozen = torch.nn.Parameter(numbers(2, 3), requires_grad=False)
  tagged = torch.nn.Parameter(numbers(3))
  tagged.note = 'an attribute'  # written with another function
  content = {'w': torch.nn.Parameter(numbers(4)), 'frozen': frozen, 'tagged': tagged}
  check(tmp_path / 'x.pt', content, content)


def test_a_training_checkpoint(tmp_path: pathlib.Path) -> None:
  """Nested dicts, an optimizer's state, and an instance of a class that is not known here."""
  model = torch.nn.Linear(3, 2)
  optimizer = torch.optim.AdamW(model.parameters())
  model(numbers(5, 3)).sum().backward()
  optimizer.step()
  content = {
    'arch': 'Linear',
    'epoch': 3,
    'monitor_best': float('inf'),
    'state_dict': OrderedDict((f'module.{name}', tensor) for name, tensor in model.state_dict().items()),
    'optimizer': optimizer.state_dict(),
    'config': Settings(),
    'history': [torch.tensor([1.0, 2.0]), {'loss': torch.tensor(0.5)}],
    'device': torch.device('cpu'),
    'size': torch.Size([2, 3]),
    'dtype': torch.float16,
  }
  states = optimizer.state_dict()['state']
  expected = {f'state_dict.module.{name}': tensor for name, tensor in model.state_dict().items()}
  expected |= {f'optimizer.state.{i}.{name}': value for i, state in states.items() for name, value in state.items()}
  expected |= {'history.0': content['history'][0], 'history.1.loss': content['history'][1]['loss']}
  check(tmp_path / 'checkpoint.pth', content, expected)


def test_shards_of_a_folder(tmp_path: pathlib.Path) -> None:
  parts = {'pytorch_model-00001-of-00002.bin': 'a', 'pytorch_model-00002-of-00002.bin': 'b'}
  for file, name in parts.items():
    torch.save({name: numbers(2)}, tmp_path / file)
  torch.save(argparse.Namespace(rate=1e-3), tmp_path / 'training_args.bin')
  assert list(Tensors(tmp_path)) == ['a', 'b']


@pytest.mark.parametrize(
  ('make', 'why'),
  [
    (lambda: {'w': numbers(2, 3).to_sparse()}, 'of a kind that is not read'),
    (lambda: {'w': torch.ones(2, dtype=torch.complex64)}, 'of a kind that is not read'),
    (lambda: {'w': torch.ones(2).to(torch.float8_e4m3fn)}, 'of a kind that is not read'),
    (lambda: {'w': torch.ones(2, dtype=torch.uint16)}, 'of a kind that is not read'),
    (lambda: {'w': torch._neg_view(numbers(2))}, 'negative or conjugate view'),
    (lambda: {'w': numbers(2).untyped_storage()}, 'of a kind that is not read'),
    (lambda: torch.nn.Linear(2, 2), 'holds no tensors'),
    (lambda: {'epoch': 3}, 'holds no tensors'),
  ],
)
def test_what_is_refused(make: Callable[[], Any], why: str, tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'x.pth'
  torch.save(make(), path)
  with pytest.raises(ValueError, match=rf'x\.pth: .*{why}.* Convert it where PyTorch is installed'):
    Tensors(path)


@pytest.mark.parametrize('wrapped', [True, False], ids=['checkpoint', 'tensors alone'])
def test_the_format_before_1_6_is_refused_and_the_advice_helps(wrapped: bool, tmp_path: pathlib.Path) -> None:
  tensors = {'module.w': numbers(2, 3).T, 'module.tied': numbers(2, 3).T}
  content = {'arch': 'x', 'epoch': 3, 'state_dict': tensors, 'config': argparse.Namespace(rate=1e-3)}
  file, converted = tmp_path / 'x.pth', tmp_path / 'x.pth.safetensors'
  torch.save(content if wrapped else tensors, file, _use_new_zipfile_serialization=False)
  with pytest.raises(ValueError, match='not a PyTorch file of the zip format') as refused:
    Tensors(file)
  command = str(refused.value).partition('trusted: python ')[2].replace('FILE.safetensors', str(converted))
  arguments = shlex.split(command.replace('FILE', str(file)))
  subprocess.run([sys.executable, *arguments], check=True)
  found = Tensors(converted)
  assert set(found) == set(tensors)
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(found[name].read(), tensor.numpy())


def test_reading_does_not_depend_on_the_pickle_s_protocol(tmp_path: pathlib.Path) -> None:
  tensor = numbers(3, 4)
  for protocol in (2, 3, 4, 5):
    torch.save({'w': tensor}, tmp_path / 'x.pth', pickle_protocol=protocol)
    np.testing.assert_array_equal(Tensors(tmp_path / 'x.pth')['w'].read(), tensor.numpy())
