"""What a workdir records of its run: config, command, commit, versions, data; and whether it is the same run again."""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.recorded_config import recorded_config
from crosstrainer_jax.settings import DURING_A_RUN, SettingsError, flatten

PACKAGE = pathlib.Path(__file__).resolve().parent
# What a checkout without git, on a worker of a pod, knows of itself (pods/checkout.py).
COMMIT_FILE = '.commit'

Path = str | os.PathLike[str]


def claim_workdir(
  workdir: Path, config: ml_collections.ConfigDict, fingerprints: Mapping[str, str], **more: str
) -> None:
  """Records what the run in `workdir` is, or checks that it is the one recorded there.

  The record of the first start stays. A later start with other code, packages or devices is added to it as `later`.

  Args:
    fingerprints: name -> fingerprint of what the run is made from, its data for example; must not change.
    more: written down the first time.

  Raises:
    SettingsError: the folder holds a run of another config (`DURING_A_RUN` apart) or from something else.
  """
  workdir = as_path(workdir)
  if not (workdir / 'config.json').is_file():
    record_environment(workdir, config, fingerprints, **more)
    return
  old, new = flatten(recorded_config(workdir)), flatten(config)
  differences = [
    f'of another config ({name}: {old.get(name)!r} → {new.get(name)!r})'
    for name in {**old, **new}
    if old.get(name) != new.get(name) and not name.startswith(DURING_A_RUN)
  ]
  recorded = recorded_environment(workdir)
  differences += [
    f'with another {what.replace("_", " ")} ({recorded[what]}, now {now})'
    for what, now in fingerprints.items()
    if recorded.get(what, now) != now
  ]
  if differences:
    raise SettingsError(
      f'{workdir} holds a run {"; ".join(differences[:5])}. Choose another --workdir, or delete that folder.'
    )
  now, before = _start(), [recorded, *recorded.get('later', ())][-1]
  if any(before.get(name) != now[name] for name in now if name != 'command'):
    recorded.setdefault('later', []).append(now)
    _write_json(workdir / 'environment.json', recorded)
  _write_json(workdir / 'config.json', config.to_dict())


def record_environment(
  workdir: Path, config: ml_collections.ConfigDict, fingerprints: Mapping[str, str], **more: str
) -> None:
  """Writes `environment.json` and `config.json`: what another person needs to make the same run."""
  workdir = as_path(workdir)
  environment = {**_start(), 'seed': config.get('seed'), **fingerprints, **more}
  # The config comes last: where it is, the record is whole.
  _write_json(workdir / 'environment.json', environment)
  _write_json(workdir / 'config.json', config.to_dict())


def recorded_environment(workdir: Path) -> dict[str, Any]:
  """What `record_environment` wrote."""
  result: dict[str, Any] = json.loads((as_path(workdir) / 'environment.json').read_text())
  return result


def _start() -> dict[str, Any]:
  """This start of a program: command, code, packages and devices."""
  devices = jax.devices()
  return {
    'command': [sys.executable, *sys.argv],
    **_commit(),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'device_kind': devices[0].device_kind,
    'devices': len(devices),
    'processes': jax.process_count(),
    'packages': _package_versions(),
  }


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  write_atomically(path, json.dumps(content, indent=2, sort_keys=True, default=str) + '\n')


def _commit() -> dict[str, Any]:
  """Commit of the checkout that the package runs from, and whether tracked files differ from it."""
  root = PACKAGE.parent

  def git(*command: str) -> str | None:
    try:
      done = subprocess.run(['git', '-C', str(root), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
      return None
    return done.stdout.strip()

  # an installed wheel may lie inside another project's checkout, whose commit says nothing
  top = git('rev-parse', '--show-toplevel')
  commit = git('rev-parse', 'HEAD') if top and pathlib.Path(top).resolve() == root else None
  if commit is None and (root / COMMIT_FILE).is_file():
    commit, state = (root / COMMIT_FILE).read_text().splitlines()[:2]
    return {'commit': commit or 'not a checkout', 'dirty': state == 'dirty' if commit else None}
  if commit is None:
    return {'commit': 'not a checkout', 'dirty': None}
  return {'commit': commit, 'dirty': bool(git('status', '--porcelain', '--untracked-files=no'))}


def _package_versions() -> dict[str, str]:
  """Versions of the declared dependencies that are installed, and of jaxlib and libtpu, which come with jax."""
  # a checkout that was built in holds a second description of the package, perhaps an old one
  found = importlib.metadata.distributions(name='crosstrainer_jax')
  declared = [requirement for distribution in found for requirement in distribution.requires or ()]
  names = {re.split(r'[^\w.-]', requirement, maxsplit=1)[0] for requirement in declared}
  versions = {}
  for name in sorted(names | {'crosstrainer_jax', 'jaxlib', 'libtpu'}):
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions
