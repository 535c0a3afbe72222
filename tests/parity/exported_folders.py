"""Runs and their exports, and what the example with torch alone answers from them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from crosstrainer_jax.inference import reference_clips

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'assess_with_torch.py'
CLIPS = 24


def run_example(folder: Path, *clips: Path) -> 'subprocess.CompletedProcess[str]':
  """The example on one file of clips after another, in one process, since torch takes its time to come."""
  # Neither this package nor JAX may be needed: the example is copied away, and JAX cannot be imported.
  lonely = folder / 'example.py'
  lonely.write_text(EXAMPLE.read_text())
  program = (
    "import sys, runpy; sys.modules['jax'] = sys.modules['crosstrainer_jax'] = None\n"
    'example, folder, *clips = sys.argv[1:]\n'
    'for file in clips:\n'
    '  sys.argv = [example, folder, file]\n'
    '  try:\n'
    "    runpy.run_path(example, run_name='__main__')\n"
    '  except SystemExit as end:\n'
    '    if end.code:\n'
    '      raise\n'
  )
  command = [sys.executable, '-W', 'error', '-c', program, str(lonely), str(folder), *map(str, clips)]
  return subprocess.run(command, capture_output=True, text=True, cwd='/')


def assert_same_answers(folder: Path) -> list[dict[str, Any]]:
  """All expected answers are given; returns them."""
  places = [place for place in (folder, folder / 'more') if (place / reference_clips.EXPECTED).is_file()]
  done = run_example(folder, *(place / reference_clips.CLIPS for place in places))
  assert done.returncode == 0, done.stdout + done.stderr
  said = [line for line in done.stdout.splitlines() if 'expected answers were given' in line]
  for place, line in zip(places, said, strict=True):
    expected: list[dict[str, Any]] = json.loads((place / reference_clips.EXPECTED).read_text())['clips']
    assert line == f'{len(expected)} of {len(expected)} expected answers were given; others: none'
  assert len(expected) == CLIPS
  return expected
