"""launch_tpu.sh, run_tests.sh and environment.sh, with a stand-in for Python so that nothing is installed."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Answers `-c` with the true Python, makes "environments" that hold itself, and writes down what pip was asked.
STAND_IN = f"""#!/bin/bash
case "$1 $2" in
  '-m venv') mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip')
    [ "$3" = --version ] && exit
    echo "$*" >> "$CALLS"
    [ -z "$PIP_FAILS" ] || {{ echo 'no matching distribution'; exit 1; }} ;;
  '-m crosstrainer_jax.train' | '-m pytest') echo "ran $*" ;;
  '--version ') echo 'Python 3.11.0' ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
WITHOUT_VENV = STAND_IN.replace('case', "[[ $* == *ensurepip* ]] && exit 1\ncase", 1)  # fmt: skip
TOO_OLD = '#!/bin/bash\nexit 1\n'


class Checkout:
  """A copy of what the scripts need, and a PATH that holds the stand-in alone beside the system's tools."""

  def __init__(self, folder: pathlib.Path):
    self.root = folder / 'checkout with a space'
    self.bin = folder / 'bin'
    self.calls = folder / 'calls'
    self.venv = self.root / '.venv'
    for name in ('launch_tpu.sh', 'run_tests.sh', 'environment.sh', 'setup.cfg', 'pyproject.toml'):
      self.root.mkdir(exist_ok=True)
      shutil.copy(ROOT / name, self.root)
    (self.root / 'configs').mkdir()
    (self.root / 'configs' / 'small.py').write_text('"""A small run.\n"""\n\n\ndef get_config():\n  pass\n')
    (self.root / 'configs' / 'arguments.py').write_text('"""No config."""\n')
    self.bin.mkdir()
    for tool in (
      'bash',
      'basename',
      'cat',
      'cksum',
      'command',
      'cp',
      'cut',
      'dirname',
      'du',
      'flock',
      'getconf',
      'grep',
    ):
      self._link(tool)
    for tool in ('mkdir', 'mv', 'rm', 'sed', 'sleep', 'tail', 'touch'):
      self._link(tool)
    self.python('python3', STAND_IN)

  def _link(self, tool: str) -> None:
    if shutil.which(tool):
      (self.bin / tool).symlink_to(shutil.which(tool))

  def python(self, name: str, text: str) -> None:
    (self.bin / name).write_text(text)
    (self.bin / name).chmod(0o755)

  def run(self, *command: str, cwd: pathlib.Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    environment = {'PATH': str(self.bin), 'CALLS': str(self.calls), 'LANG': 'C.UTF-8', **environment}
    return subprocess.run(
      [str(self.root / command[0]), *command[1:]], cwd=cwd or self.root, env=environment, capture_output=True, text=True
    )

  def launch(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return self.run('launch_tpu.sh', *arguments, CROSSTRAINER_EXTRA='cpu', **environment)

  def installations(self) -> list[str]:
    return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def checkout(tmp_path):
  return Checkout(tmp_path)


def test_help_installs_nothing(checkout):
  done = checkout.launch('--help')
  assert done.returncode == 0
  assert 'configs/small.py               A small run.' in done.stdout
  assert 'arguments.py' not in done.stdout
  assert not checkout.venv.exists()


def test_without_a_config_it_helps(checkout):
  done = checkout.launch()
  assert done.returncode == 2
  assert 'A small run.' in done.stderr
  assert done.stderr.endswith('No config was given.\n')


def test_an_unknown_config_is_refused_before_anything_is_installed(checkout):
  done = checkout.launch('configs/smal.py:smoke')
  assert done.returncode == 2
  assert 'There is no config configs/smal.py.' in done.stderr
  assert 'configs/small.py' in done.stderr
  assert not checkout.venv.exists()


def test_two_configs_are_refused(checkout):
  assert 'Two configs were given' in checkout.launch('configs/small.py', 'seed=1').stderr


def test_dry_run_without_an_environment_only_speaks(checkout):
  done = checkout.launch('configs/small.py:smoke', '--config.seed=1', '--dry-run')
  assert done.returncode == 0
  assert 'Would make the environment' in done.stdout
  assert 'Would run  python -m crosstrainer_jax.train --config configs/small.py:smoke --config.seed=1' in done.stdout
  assert not checkout.venv.exists()
  assert not checkout.installations()


def test_first_run_installs_and_the_second_does_not(checkout, tmp_path):
  first = checkout.launch('configs/small.py', '--config.seed=1', '--workdir=some where')
  assert first.returncode == 0, first.stderr
  assert first.stdout.endswith(
    'ran -m crosstrainer_jax.train --config=configs/small.py --config.seed=1 --workdir=some where\n'
  )
  assert 'Making the environment' in first.stdout
  [installation] = checkout.installations()
  assert installation.endswith(f'--editable {checkout.root}')
  second = checkout.run('launch_tpu.sh', 'configs/small.py', '--dry-run', cwd=tmp_path, CROSSTRAINER_EXTRA='cpu')
  assert second.stdout.endswith('ran -m crosstrainer_jax.train --config=configs/small.py --dry-run\n')
  assert 'nstall' not in second.stdout
  assert len(checkout.installations()) == 1


def test_another_extra_or_another_setup_is_installed(checkout):
  checkout.launch('configs/small.py')
  assert checkout.run('run_tests.sh', '-k', 'x').stdout.endswith('ran -m pytest -k x\n')
  assert checkout.installations()[1].endswith(f'{checkout.root}[test]')
  # what holds the tests holds the plain package too
  (checkout.venv / 'installed-plain').unlink()
  checkout.launch('configs/small.py')
  assert len(checkout.installations()) == 2
  with (checkout.root / 'setup.cfg').open('a') as setup:
    setup.write('# changed\n')
  checkout.launch('configs/small.py')
  assert len(checkout.installations()) == 3


def test_a_half_made_environment_is_made_anew(checkout):
  checkout.launch('configs/small.py')
  (checkout.venv / 'unfinished').touch()
  (checkout.venv / 'half').touch()
  done = checkout.launch('configs/small.py')
  assert 'Removing the half-made environment' in done.stdout
  assert not (checkout.venv / 'half').exists()
  assert not (checkout.venv / 'unfinished').exists()


def test_a_killed_installation_leaves_its_mark(checkout):
  (checkout.bin / 'sleep').unlink()
  checkout.python('sleep', '#!/bin/bash\nkill -9 $PPID\n')
  slow = STAND_IN.replace('echo "$*" >> "$CALLS"', 'echo "$*" >> "$CALLS"; read -t 0.3 <> <(:) || true')
  checkout.python('python3', slow)
  killed = checkout.launch('configs/small.py')
  assert killed.returncode == -9
  assert (checkout.venv / 'unfinished').exists()
  (checkout.bin / 'sleep').unlink()
  checkout._link('sleep')
  again = checkout.launch('configs/small.py')
  assert again.returncode == 0, again.stderr
  assert 'Removing the half-made environment' in again.stdout


def test_an_environment_of_the_users_own_is_kept(checkout):
  (checkout.venv / 'bin').mkdir(parents=True)
  shutil.copy(checkout.bin / 'python3', checkout.venv / 'bin' / 'python')
  (checkout.venv / 'mine').touch()
  assert checkout.launch('configs/small.py').returncode == 0
  assert (checkout.venv / 'mine').exists()
  assert len(checkout.installations()) == 1


def test_an_environment_that_does_not_run_is_named_not_removed(checkout):
  checkout.venv.mkdir()
  (checkout.venv / 'mine').touch()
  done = checkout.launch('configs/small.py')
  assert done.returncode == 1
  assert 'remove the folder and run this again' in done.stderr
  assert (checkout.venv / 'mine').exists()


def test_a_failed_installation_shows_its_log(checkout):
  done = checkout.launch('configs/small.py', PIP_FAILS='1')
  assert done.returncode == 1
  assert 'no matching distribution\nInstallation failed; the whole log is' in done.stderr
  assert checkout.launch('configs/small.py').returncode == 0


@pytest.mark.parametrize(
  ('python', 'message'),
  [
    (TOO_OLD, 'No Python 3.11 or newer was found. On Debian'),
    (WITHOUT_VENV, f'python3 is Python 3.{sys.version_info.minor}, but its venv module is missing'),
  ],
)
def test_a_missing_python_is_explained(checkout, python, message):
  checkout.python('python3', python)
  done = checkout.launch('configs/small.py')
  assert done.returncode == 1
  assert message in done.stderr
  assert not checkout.venv.exists()


def test_a_newer_python_beside_an_old_one_is_found(checkout):
  checkout.python('python3', TOO_OLD)
  checkout.python('python3.12', STAND_IN)
  done = checkout.launch('configs/small.py')
  assert done.returncode == 0, done.stderr
  assert f'({checkout.bin}/python3.12)' in done.stdout


def test_python_can_be_chosen(checkout, tmp_path):
  chosen = tmp_path / 'chosen'
  shutil.copy(checkout.bin / 'python3', chosen)
  assert f'({chosen})' in checkout.launch('configs/small.py', PYTHON=str(chosen)).stdout
  assert 'at PYTHON=/nowhere' in Checkout(_folder(tmp_path)).launch('configs/small.py', PYTHON='/nowhere').stderr


def _folder(tmp_path: pathlib.Path) -> pathlib.Path:
  (tmp_path / 'second').mkdir()
  return tmp_path / 'second'


# --- The accelerator


def _accelerator(checkout, devices, **environment):
  under = checkout.root / 'machine'
  for name, text in devices.items():
    (under / name).parent.mkdir(parents=True, exist_ok=True)
    (under / name).write_text(text)
  script = 'root=$1; source "$1/environment.sh"; accelerator "$2"'
  return subprocess.run(
    ['bash', '-c', script, 'x', checkout.root, under],
    env={'PATH': str(checkout.bin), **environment}, capture_output=True, text=True,
  )  # fmt: skip


PCI = 'sys/bus/pci/devices/0000:00:04.0'


@pytest.mark.parametrize(
  ('devices', 'environment', 'expected'),
  [
    ({}, {}, ''),
    ({'dev/accel0': ''}, {}, 'tpu'),
    ({'dev/accel/accel0': ''}, {}, ''),  # an NPU of a laptop
    ({'dev/vfio/0': '', f'{PCI}/vendor': '0x1ae0\n', f'{PCI}/device': '0x0063\n'}, {}, 'tpu'),
    (
      {'dev/vfio/0': '', f'{PCI}/vendor': '0x1ae0\n', f'{PCI}/device': '0x0042\n'},
      {},
      '',
    ),  # a network card of the same maker
    ({'dev/vfio/0': ''}, {'TPU_WORKER_ID': '0'}, 'tpu'),
    ({'dev/vfio/vfio': ''}, {'TPU_WORKER_ID': '0'}, ''),
    ({'dev/accel0': ''}, {'CROSSTRAINER_EXTRA': 'cpu'}, ''),
    ({}, {'CROSSTRAINER_EXTRA': 'cuda13'}, 'cuda13'),
  ],
)
def test_accelerator(checkout, devices, environment, expected):
  done = _accelerator(checkout, devices, **environment)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == expected


@pytest.mark.parametrize(('answer', 'expected'), [('echo "GPU 0: NVIDIA H200"', 'cuda'), ('echo failed; exit 9', '')])
def test_a_graphics_card_counts_when_it_answers(checkout, answer, expected):
  checkout.python('nvidia-smi', f'#!/bin/bash\n{answer}\n')
  assert _accelerator(checkout, {}).stdout.strip() == expected


def test_an_unknown_extra_is_refused(checkout):
  done = _accelerator(checkout, {}, CROSSTRAINER_EXTRA='gpu')
  assert done.returncode == 2
  assert 'one of cpu, cuda, cuda13, tpu' in done.stderr
