"""A directory is taken as it is; what is a repository is asked of the hub, whose absence is a clear error."""

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from crosstrainer_jax.weights import hub


@pytest.fixture
def asked(monkeypatch, tmp_path):
  """What the hub is asked for; it answers with those of the files in `tmp_path/hub` that are wanted."""
  calls = []

  def download(name, revision, allow_patterns, ignore_patterns):
    calls.append((name, revision))
    names = [file.name for file in (tmp_path / 'hub').iterdir()]
    (tmp_path / 'cache').mkdir(exist_ok=True)
    for file in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
      (tmp_path / 'cache' / file).touch()
    return str(tmp_path / 'cache')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  return calls


def test_what_lies_here_is_not_asked_for(tmp_path, asked):
  assert hub.locate(tmp_path) == tmp_path
  assert asked == []
  with pytest.raises(ValueError, match='lies on this machine: a revision'):
    hub.locate(tmp_path, 'abc')


SAFE = ['model-00001-of-00002.safetensors', 'model.safetensors.index.json']
OTHERS = ['flax_model.msgpack', 'tf_model.h5', 'model.onnx', 'training_args.bin']
PICKLED = ['pytorch_model-00001-of-00001.bin', 'pytorch_model.bin.index.json']


@pytest.mark.parametrize(
  ('weights', 'left', 'calls'),
  [(SAFE, ['consolidated.safetensors', PICKLED[0]], 1), (PICKLED, [], 2), (['pytorch_model.bin'], [], 2)],
  ids=['safetensors', 'shards of PyTorch', 'one file of PyTorch'],
)
def test_weights_of_a_repository_are_downloaded_once(tmp_path, asked, weights, left, calls):
  rest = ['config.json', 'tokenizer.model', 'merges.txt', 'chat_template.jinja', 'README.md', 'LICENSE.txt']
  (tmp_path / 'hub').mkdir()
  for name in (*weights, *left, *OTHERS, *rest):
    (tmp_path / 'hub' / name).touch()
  folder = hub.locate('owner/name', 'abc')
  assert sorted(file.name for file in folder.iterdir()) == sorted([*weights, *rest])
  assert asked == [('owner/name', 'abc')] * calls
  hub.locate('owner/name')
  assert asked[-1] == ('owner/name', None)


@pytest.mark.parametrize('name', ['nowhere', '/no/such/directory', 'a/b/c'])
def test_what_is_neither_is_refused(name, asked):
  with pytest.raises(FileNotFoundError, match='no such file or directory, and no repository'):
    hub.locate(name)
  assert asked == []


@pytest.mark.parametrize('error', [LocalEntryNotFoundError('cannot reach the hub\nand more'), OSError('no route')])
def test_without_a_network_it_says_what_to_do(monkeypatch, error):
  def fail(*_, **__):
    raise error

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  with pytest.raises(FileNotFoundError, match=r'owner/name: .*(cannot reach the hub|no route) .*hf auth login'):
    hub.locate('owner/name')
