"""A directory is taken as it is; what is a repository is asked of the hub, whose absence is a clear error."""

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from crosstrainer_jax.weights import hub


@pytest.fixture
def asked(monkeypatch, tmp_path):
  """What the hub is asked for; it answers with a folder."""
  calls = []

  def download(name, revision, allow_patterns):
    calls.append((name, revision, allow_patterns))
    return str(tmp_path)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  return calls


def test_what_lies_here_is_not_asked_for(tmp_path, asked):
  assert hub.locate(tmp_path) == tmp_path
  assert asked == []
  with pytest.raises(ValueError, match='lies on this machine: a revision'):
    hub.locate(tmp_path, 'abc')


def test_a_repository_is_downloaded_at_its_revision(tmp_path, asked):
  assert hub.locate('owner/name', 'abc') == tmp_path
  assert hub.locate('owner/name') == tmp_path
  assert [(name, revision) for name, revision, _ in asked] == [('owner/name', 'abc'), ('owner/name', None)]
  wanted = asked[0][2]
  assert '*.safetensors' in wanted
  assert not any('bin' in pattern or 'pt' in pattern for pattern in wanted)


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
