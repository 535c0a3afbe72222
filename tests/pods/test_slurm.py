"""The example for several GPU nodes, with a stand-in for Slurm; tests/test_distributed.py has real processes."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.pods.conftest import ROOT, STUBS

EXAMPLE = 'examples/slurm/gpu_nodes.sbatch'
STAND_IN = f"""#!/bin/bash
case "$1 $2" in
  '-m venv') mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip') echo "$*" >> "$CALLS" ;;
  '-m crosstrainer_jax.train') echo "task $SLURM_PROCID of $SLURM_NTASKS on node $SLURM_NODEID: $*"; exit $STATUS ;;
  '--version ') echo 'Python 3.11.0' ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def submit(tmp_path):
  """Submits the example in a small checkout; returns what Slurm and the tasks said."""
  for name in ('launch_tpu.sh', 'environment.sh', 'setup.cfg', 'pyproject.toml', EXAMPLE):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, tmp_path / name)
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'small.py').write_text('"""A small run."""\n\ndef get_config():\n  pass\n')
  (tmp_path / 'bin').mkdir()
  (tmp_path / 'bin' / 'python3').write_text(STAND_IN)
  (tmp_path / 'bin' / 'python3').chmod(0o755)

  def run(*words: str, status: int = 0) -> tuple[subprocess.CompletedProcess, list[str]]:
    environment = {
      **os.environ, 'PATH': f'{STUBS}:{tmp_path / "bin"}:{os.environ["PATH"]}', 'SLURM_STUB': '1',
      'STATUS': str(status), 'CROSSTRAINER_EXTRA': 'cuda', 'CALLS': str(tmp_path / 'calls'),
    }  # fmt: skip
    done = subprocess.run(
      ['sbatch', EXAMPLE, 'configs/small.py', *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    return done, [path.read_text() for path in sorted((tmp_path / 'runs' / 'slurm').glob('*-12-*.log'))]

  return run


def test_every_node_runs_the_same_command_in_one_environment(submit, tmp_path):
  done, logs = submit('--workdir=/shared/a run')
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('Submitted batch job 12\n')
  command = '-m crosstrainer_jax.train --config=configs/small.py --workdir=/shared/a run'
  assert [log.splitlines()[-1] for log in logs] == [f'task {n} of 2 on node {n}: {command}' for n in (0, 1)]
  installed = [line for line in (tmp_path / 'calls').read_text().splitlines() if '--editable' in line]
  assert len(installed) == 1
  assert installed[0].endswith('[cuda]')


@pytest.mark.parametrize('status', [75, 143])
def test_a_run_that_was_told_to_end_is_started_again(submit, status):
  done, _ = submit(status=status)
  assert done.returncode == status
  assert 'has saved; asking Slurm to start it again\nrequeued 12\n' in done.stdout


def test_a_run_that_failed_is_not(submit):
  done, _ = submit(status=3)
  assert done.returncode == 3
  assert 'requeued' not in done.stdout
