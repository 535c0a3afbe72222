"""Runs the README's commands, in its order, in the checkout that this file lies in.

    .venv/bin/python .ci/readme.py [README.md]

Needs the .venv and the run that the steps of .ci/run have made before. Every line of a ```sh block, every ```python
block, and every command that the text has between backticks is run as it is written, except where a rule below says
otherwise; what is a step of .ci/run is not run twice. A command that would train for long and has no rule is an error.
"""

import dataclasses
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = '.venv/bin/python'
# Programs here are found before the machine's: stand-ins for those that CI must not call.
STUBS = ROOT / '.ci' / 'stubs'
# What these commands compile runs for seconds only.
COMPILE_FLAGS = ROOT / 'tests' / 'compile_flags.py'
LIMIT = 300  # seconds a command

FEW_CLIPS = '--config.data.skillsim.train_clips=12 --config.data.skillsim.test_clips=4'
SHORT_RUN = f'"--config.eval.rows=()" {FEW_CLIPS}'  # the main job trains the rivals
FEW_PASSES = '--config.stage1.epochs=4 --config.stage2.epochs=4 --config.stage2.fold_epochs=2'
# Pattern, replacement, reason; applied in this order.
RULES = (
  (r'^python -m ', f'{PYTHON} -m ', 'nobody has activated the environment'),
  (r'(configs/(?:cross_sport|in_domain)\.py)(?=$| --config)', r'\1:smoke', 'the full run takes minutes'),
  (r'^(\S+ configs/in_domain\.py:smoke.*)$', rf'\1 {SHORT_RUN}', 'the main job trains the rivals'),
  (r'(configs/cross_sport\.py:held_out=\w+,seed=\d+)$', rf'\1,smoke {SHORT_RUN}', 'the full run takes minutes'),
  (r'^(\S+ configs/(own_videos)\.py:(\S+))$', rf'\1 --workdir=runs/\2-\3 {FEW_PASSES}', 'fewer passes will do'),
  (r'(--logdir runs/cross_sport)/', r'\1-smoke/', 'where the main job has become :smoke'),
  (r'(-m crosstrainer_jax\.export runs/cross_sport)', r'\1-smoke', 'where the main job has become :smoke'),
  (
    r'(-m crosstrainer_jax\.features --config configs)/cross_sport\.py:paper,(\S+) --config\.encoder\.weights=\S+',
    r'\1/own_videos.py:\2',
    'the weights of the paper’s encoder are not here',
  ),
  (r'(-m crosstrainer_jax\.(?:doctor|prepare) egoexo4d) .*$', r'\1 --help', 'Ego-Exo4D is under a licence'),
  (r'^(.*--backend openai .*)$', r'\1 --estimate', 'no model is served here'),
  (r'(-m crosstrainer_jax\.(?:represent|retrieve)\b.*)$', r'\1 --dry-run', 'it takes minutes; tests train a small one'),
  (r'(-m crosstrainer_jax\.sweep (?!.*--dry-run).*)$', r'\1 --dry-run', 'a sweep takes hours'),
)  # fmt: skip
TRAINS = re.compile(r'launch_tpu\.sh|run_tests\.sh|\.ci/run|crosstrainer_jax\.(train|sweep|pretrain)')
# What runs on a pod ends at once: gcloud is a stand-in.
SHORT = re.compile(r'[:,]smoke\b|--dry-run|--help|configs/own_videos\.py|--tpu ')


@dataclasses.dataclass(frozen=True)
class Command:
  """What the README tells a reader to type: a line of sh, or a program in python."""

  text: str
  language: str = 'sh'


# --- What the README says


def commands(page: str) -> list[Command]:
  """The commands of a Markdown page, in its order, each once.

  Raises:
    ValueError: a fenced block is of no known language, so that it would go untested.
  """
  found = []
  for language, block, inline in re.findall(r'^```(.*)\n((?:.*\n)*?)```$|`([^`\n]+)`', page, re.MULTILINE):
    if inline:
      if re.match(r'\./\w|\.venv/bin/|python -m ', inline):
        found.append(Command(inline))
    elif language == 'sh':
      found += [Command(line) for line in map(_without_comment, block.replace('\\\n', ' ').splitlines()) if line]
    elif language == 'python':
      found.append(Command(block, language))
    else:
      raise ValueError(f'a block of the README is marked {language!r}; only sh and python are run:\n{block}')
  return list(dict.fromkeys(found))


def _without_comment(line: str) -> str:
  return re.sub(r'(^|\s+)#\s[^\'"]*$', '', line).strip()


def steps(script: str) -> set[str]:
  """The command lines of the steps of .ci/run."""
  return set(re.findall(r"^\s*step '[^']*' (.*[^\\\n])$", script, re.MULTILINE))


def as_run(command: Command) -> tuple[Command, list[str]]:
  """The command after the rules, and the reasons of those that changed it."""
  text, reasons = command.text, []
  if command.language == 'sh':
    for pattern, replacement, reason in RULES:
      text, count = re.subn(pattern, replacement, text)
      reasons += [reason] * count
  return Command(text, command.language), reasons


def exercised(page: str, script: str) -> Iterator[tuple[Command, Command | None, list[str]]]:
  """Every command of the page, what is run for it (None: a step of .ci/run has done it), and why it differs.

  Raises:
    ValueError: a command would train for long, and neither a rule nor a step of .ci/run is for it.
  """
  done = steps(script)
  for command in commands(page):
    changed, reasons = as_run(command)
    if changed.text in done:
      yield command, None, [*reasons, 'a step of .ci/run']
    elif command.language == 'sh' and TRAINS.search(changed.text) and not SHORT.search(changed.text):
      raise ValueError(f'no rule of .ci/readme.py says how CI is to run this command of the README: {command.text}')
    else:
      yield command, changed, reasons


# --- Running


def write_videos(folder: Path) -> None:
  """The files that the section on own videos speaks of: a manifest, its videos, and a new one.

  Raises:
    FileExistsError: somebody's own lie there.
  """
  # of .venv; reading the README needs neither
  import av
  import numpy as np

  for name in ('manifest.jsonl', 'new_video.mp4'):
    if (folder / name).exists():
      raise FileExistsError(f'{folder / name} is there already: this is for a fresh clone, as .ci/run makes it')

  def write(name: str, shift: int) -> str:
    with av.open(str(folder / name), 'w') as container:
      stream = container.add_stream('libx264', rate=10)
      stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
      for number in range(60):
        picture = np.full((64, 96, 3), 40, np.uint8)
        top = 8 + shift + round(12 * np.sin(number / 6))
        picture[top : top + 24, 30 + shift : 46 + shift] = (220, 120, 60)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, 'rgb24')))
      container.mux(stream.encode(None))
    return name

  comments = ('Keep your knees bent for longer.', 'Good balance, but the back is rounded.', 'Come up more slowly.')
  rows = [
    {
      'videos': write(f'squats{number}.mp4', 4 * number), 'sport': 'squats', 'skill': 'squat',
      'participant': f'person {number}', 'commentary': comment, 'time': 3.0,
    }
    for number, comment in enumerate(comments)
  ]  # fmt: skip
  (folder / 'manifest.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  write('new_video.mp4', 6)


def run(command: Command, folder: Path) -> str:
  """Runs it; returns what went wrong, or ''."""
  argv = ['bash', '-c', command.text] if command.language == 'sh' else [PYTHON, '-c', command.text]
  path = os.pathsep.join([str(STUBS), os.environ['PATH']])
  flags = ' '.join([os.environ.get('XLA_FLAGS', ''), *runpy.run_path(str(COMPILE_FLAGS))['FAST']])
  environment = {**os.environ, 'PATH': path, 'PYTHONUNBUFFERED': '1', 'XLA_FLAGS': flags}
  with subprocess.Popen(
    argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    text=True, start_new_session=True,
  ) as process:  # fmt: skip
    if 'tensorboard.main' in command.text:
      return _serves(process)
    try:
      output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      return f'not done after {LIMIT} s'
  if process.returncode or 'Traceback' in errors:
    return f'ended with {process.returncode}\n{output[-3000:]}\n{errors[-3000:]}'
  if '--json' in command.text:
    try:
      json.loads(output)
    except ValueError as error:
      return f'no JSON: {error}\n{output[-3000:]}'
  return '' if output.strip() else 'said nothing'


def _serves(process: subprocess.Popen) -> str:
  """Waits for TensorBoard's address, asks for the runs that it shows, and ends it."""
  timer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
  timer.start()
  assert process.stderr is not None
  said = ''
  try:
    for line in process.stderr:
      said += line
      if found := re.search(r'http://localhost:(\d+)/', line):
        break
    else:
      return f'TensorBoard gave no address\n{said}'
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(30):  # it answers before it has read the logs
      with direct.open(f'http://127.0.0.1:{found[1]}/data/runs', timeout=20) as answer:
        if json.load(answer):
          return ''
      time.sleep(1)
    return 'TensorBoard shows no run'
  except OSError as error:
    return f'TensorBoard does not answer: {error}'
  finally:
    timer.cancel()
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
  page = Path(arguments[0]) if arguments else ROOT / 'README.md'
  plan = list(exercised(page.read_text(), (ROOT / '.ci' / 'run').read_text()))
  write_videos(ROOT)
  failed = []
  for command, changed, reasons in plan:
    because = f'  ({"; ".join(reasons)})' if reasons else ''
    if changed is None:
      print(f'done    {command.text}{because}', flush=True)
      continue
    start = time.monotonic()
    wrong = run(changed, ROOT)
    state, shown = 'FAILED' if wrong else 'ok', '; '.join(filter(None, changed.text.splitlines()))
    print(f'{state} {time.monotonic() - start:4.0f} s  {shown}{because}', flush=True)
    if wrong:
      failed.append(command.text)
      print(wrong, flush=True)
  print(f'{len(plan)} commands of {page.name}, {len(failed)} failed')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
