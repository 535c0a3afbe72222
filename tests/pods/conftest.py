"""A cloud for the tests: the stand-in for gcloud of .ci/stubs, in a scenario that each test writes."""

import json
import pathlib
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STUBS = ROOT / '.ci' / 'stubs'


class Cloud:
  """What the stand-in plays and what it was asked."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.folder.mkdir()

  def play(self, **scenario: object) -> None:
    (self.folder / 'scenario.json').write_text(json.dumps(scenario))

  def calls(self) -> list[list[str]]:
    path = self.folder / 'calls'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

  def kinds(self) -> list[str]:
    """`create`, `delete`, `scp` and what the workers were asked for, in order; looks are left out."""
    found = []
    for words in self.calls():
      kind = words[3]
      if kind == 'ssh':
        command = next(word for word in words if word.startswith('--command='))
        kind = command.split('worker.py ')[-1].split()[0]
      if kind != 'describe':
        found.append(kind)
    return found

  @property
  def state(self) -> dict:
    return json.loads((self.folder / 'state.json').read_text())


@pytest.fixture
def cloud(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
  monkeypatch.setenv('GCLOUD_STUB', str(tmp_path / 'cloud'))
  # a python3 that starts at once, where the machine's is one that looks for others first
  (tmp_path / 'python').mkdir()
  (tmp_path / 'python' / 'python3').symlink_to(sys.executable)
  monkeypatch.setenv('PATH', f'{STUBS}:{tmp_path / "python"}', prepend=':')
  return Cloud(tmp_path / 'cloud')


@pytest.fixture
def launch(cloud: Cloud, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
  """Launches a config on a TPU `t`, with no pause between looks; returns the exit status."""
  import pods.job
  import pods.launch

  checkout = tmp_path / 'checkout'
  (checkout / 'configs').mkdir(parents=True)
  (checkout / 'configs' / 'cross_sport.py').touch()
  for module in (pods.job, pods.launch):
    monkeypatch.setattr(module, 'ROOT', checkout)
  monkeypatch.setattr(pods.launch, 'PAUSE', 0.01)
  monkeypatch.setattr(pods.job, 'GRACE', 0.2)
  (tmp_path / 'here').mkdir()
  monkeypatch.chdir(tmp_path / 'here')

  def run(*more: str, bucket: bool = True, place: tuple[str, str] = ('p', 'z')) -> int:
    words = ['configs/cross_sport.py:smoke', '--tpu', 't', '--project', place[0], '--zone', place[1]]
    return pods.launch.main([*words, *['--workdir=gs://bucket/run'] * bucket, *more])

  return run
