"""A run that another one starts from: `config.init.from_run` names its workdir.

The child takes the parent's parameters after stage II, and its tokenizer, since its embeddings mean nothing under
another one. Then it goes through the same stages as every run.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from flax import nnx

from crosstrainer_jax.input import splits
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.recorded_config import CONFIG_FILE, recorded_config
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.provenance import recorded_environment
from crosstrainer_jax.settings import SettingsError, flatten
from crosstrainer_jax.training import stages
from crosstrainer_jax.training.telemetry import say

_STAGE = 'stage2'
# What must be the same in both runs. Of the encoder the weights count, which `Parent.require_fit` compares.
_ARCHITECTURE = ('decoder.', 'lora.', 'mapper.', 'prompt.', 'training.frozen')
# How the same architecture is computed.
_FREE = ('decoder.attention', 'decoder.remat', 'decoder.unroll', 'decoder.dropout', 'decoder.weights', 'lora.dropout')


@dataclasses.dataclass(frozen=True)
class Parent:
  """A finished run: its workdir, its config, and the fingerprint of its parameters."""

  workdir: Path
  config: ml_collections.ConfigDict
  fingerprint: str

  @property
  def tokenizer(self) -> Path:
    return self.workdir / 'tokenizer'

  def require_fit(self, config: ml_collections.ConfigDict, encoder: str, decoder: str | None) -> None:
    """Raises SettingsError where a run of `config` cannot start from here.

    Args:
      encoder, decoder: fingerprints of the run's video encoder, and of the decoder that it stands on, if there is one.
    """
    ours, theirs = flatten(config), flatten(self.config)
    differences = [
      f'{name}: {theirs.get(name)!r} there, {ours.get(name)!r} here'
      for name in sorted({*ours, *theirs})
      if name.startswith(_ARCHITECTURE) and name not in _FREE and ours.get(name) != theirs.get(name)
    ]
    recorded = recorded_environment(self.workdir)
    for what, now in (('encoder_fingerprint', encoder), ('decoder_fingerprint', decoder)):
      if recorded.get(what) != now:
        differences.append(f'{what.replace("_", " ")}: {recorded.get(what)} there, {now} here')
    if differences:
      raise SettingsError(
        f'config.init.from_run={self.workdir} is another model ({"; ".join(differences[:5])}): '
        'give this run the same settings, or start from nothing (config.init.from_run=)'
      )

  def require_unseen(self, clips: Sequence[ClipInfo], test: Sequence[int], data_fingerprint: str) -> None:
    """Raises SettingsError where the parent was trained on people whom this run is tested on."""
    if recorded_environment(self.workdir).get('data_fingerprint') != data_fingerprint:
      say(f'  {self.workdir} was trained on other data: whether it has seen the people of the test is not known')
      return
    seen = {clips[i].participant for i in splits.split_of(clips, self.config).train}
    shared = sorted(seen & {clips[i].participant for i in test})
    if shared:
      raise SettingsError(
        f'config.init.from_run={self.workdir} was trained on {len(shared)} people of this test, {shared[0]!r} for one: '
        'its scores would mean nothing. Start from a run that holds out the same sport, or has the same split'
      )

  def params(self, blueprint: stages.Blueprint, like: nnx.State) -> nnx.State:
    """The parameters after stage II, in the places of `like`.

    Raises:
      SettingsError: what whitens its features is frozen, so that the run has not kept it.
    """
    if 'whitening' in like['mapper'] and 'whitening' not in blueprint.split(like)[0].get('mapper', {}):
      raise SettingsError('training.frozen names mapper/whitening, which config.init.from_run then cannot take over')
    return stages.load_params(self.workdir / _STAGE, blueprint, like)


def find(config: ml_collections.ConfigDict) -> Parent | None:
  """The parent of a run of `config`; None for one that starts from nothing.

  Raises:
    FileNotFoundError: there is no such run, or its stage II is not finished.
  """
  if not config.init.from_run:
    return None
  workdir = as_path(config.init.from_run)
  done = workdir / _STAGE / 'done.json'
  if not (workdir / CONFIG_FILE).is_file() or not done.is_file():
    what = 'has not finished stage II' if (workdir / CONFIG_FILE).is_file() else 'is not the folder of a run'
    raise FileNotFoundError(f'config.init.from_run={workdir} {what}: train it first')
  facts = json.loads(done.read_text())
  sums = json.dumps(facts.get('checksums', facts), sort_keys=True)
  return Parent(workdir, recorded_config(workdir), hashlib.sha256(sums.encode()).hexdigest()[:16])
