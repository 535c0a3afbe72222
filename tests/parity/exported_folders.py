"""Runs and their exports, and what the example with torch alone answers from them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from crosstrainer_jax.inference import reference_clips

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'assess_with_torch.py'
CLIPS = 24


def run_example(folder: Path, clips: Path) -> 'subprocess.CompletedProcess[str]':
  # Neither this package nor JAX may be needed: the example is copied away, and JAX cannot be imported.
  lonely = folder / 'example.py'
  lonely.write_text(EXAMPLE.read_text())
  blocked = "import sys, runpy; sys.modules['jax'] = sys.modules['crosstrainer_jax'] = None; sys.argv = sys.argv[1:]; "
  command = [sys.executable, '-W', 'error', '-c', blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"]
  return subprocess.run([*command, str(lonely), str(folder), str(clips)], capture_output=True, text=True, cwd='/')


def assert_same_answers(folder: Path) -> list[dict[str, Any]]:
  """All expected answers are given; returns them."""
  for place in (folder, folder / 'more'):
    if not (place / reference_clips.EXPECTED).is_file():
      continue
    done = run_example(folder, place / reference_clips.CLIPS)
    assert done.returncode == 0, done.stdout + done.stderr
    expected: list[dict[str, Any]] = json.loads((place / reference_clips.EXPECTED).read_text())['clips']
    assert f'{len(expected)} of {len(expected)} expected answers were given; others: none' in done.stdout
  assert len(expected) == CLIPS
  return expected
