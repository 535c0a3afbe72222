import jax
import pytest

from crosstrainer_jax.training import peers
from crosstrainer_jax.training.checkpoints import CheckpointError


@pytest.fixture
def ended(monkeypatch):
  codes = []
  monkeypatch.setattr(peers.os, '_exit', codes.append)
  return codes


def fail(error, cause=None):
  with peers.needed('stage1'):
    raise error from cause


def test_a_lost_peer_ends_this_process_with_a_message(ended, monkeypatch, capsys):
  monkeypatch.setattr(peers.jax, 'process_count', lambda: 4)
  gone = jax.errors.JaxRuntimeError('UNAVAILABLE: connection closed by peer\nand more')
  fail(gone)
  assert ended == [77]
  said = capsys.readouterr().err
  assert 'stage1: process 0 of 4 lost another one (UNAVAILABLE: connection closed by peer)' in said
  assert 'exit code 77' in said
  # a save that waits for the others fails in its own words
  fail(CheckpointError('could not be written'), gone)
  assert ended == [77, 77]
  # gloo raises what XLA raises elsewhere as another kind
  fail(ValueError('UNKNOWN: Gloo all-reduce failed'))
  assert ended == [77, 77, 77]
  with pytest.raises(jax.errors.JaxRuntimeError, match='out of memory'):
    fail(jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory'))
  with pytest.raises(CheckpointError):
    fail(CheckpointError('could not be written'), OSError('full'))


def test_alone_an_error_is_an_error(ended):
  with pytest.raises(jax.errors.JaxRuntimeError):
    fail(jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory'))
  assert not ended
