""".ci/readme.py: every command of the README is run by CI, or it says why not."""

import importlib.util
import json
import pathlib
import sys
import types

import av
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text()
CI = (ROOT / '.ci' / 'run').read_text()
TICKS = '```'


def _load() -> types.ModuleType:
  spec = importlib.util.spec_from_file_location('ci_readme', ROOT / '.ci' / 'readme.py')
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # dataclasses look there
  spec.loader.exec_module(module)
  return module


readme = _load()


def block(language: str, text: str) -> str:
  return f'Say\n\n{TICKS}{language}\n{text}\n{TICKS}\n\nand more.\n'


# --- The README as it is


def test_every_command_of_the_readme_is_exercised():
  plan = list(readme.exercised(README, CI))
  run = [changed.text for _, changed, _ in plan if changed]
  assert len(plan) > 10
  assert len(run) == len(set(run))
  for line in README.splitlines():  # found by another way than that of the script
    if line.startswith(('./', '.venv/bin/')):
      assert line.split(' #')[0].strip() in {command.text for command, _, _ in plan}
  assert sum(command.language == 'python' for command, _, _ in plan) == README.count(f'{TICKS}python')


def test_ci_runs_the_rest_of_the_readme_after_the_main_job():
  steps = readme.steps(CI)
  assert {'./run_tests.sh', './launch_tpu.sh configs/cross_sport.py:smoke'} < steps
  assert CI.index("step 'main job'") < CI.index('.venv/bin/python .ci/readme.py')


@pytest.mark.parametrize('rule', readme.RULES, ids=lambda rule: rule[2])
def test_every_rule_is_needed(rule, monkeypatch):
  before = [readme.as_run(command) for command in readme.commands(README)]
  monkeypatch.setattr(readme, 'RULES', tuple(other for other in readme.RULES if other is not rule))
  assert [readme.as_run(command) for command in readme.commands(README)] != before


def test_the_main_job_is_run_as_smoke():
  changed = {command.text: (shown and shown.text, why) for command, shown, why in readme.exercised(README, CI)}
  assert changed['./launch_tpu.sh configs/cross_sport.py'] == (
    None,
    ['the full run takes minutes', 'a step of .ci/run'],
  )
  assert changed['./launch_tpu.sh configs/cross_sport.py --dry-run'][0].endswith('cross_sport.py --dry-run')
  assert changed['./run_tests.sh'] == (None, ['a step of .ci/run'])


# --- Other pages


def test_commands_are_found_in_blocks_and_in_the_text():
  page = (
    block('sh', './one.sh --a=1   # a comment\n\n.venv/bin/python -m two \\\n  --b "x # y"\n')
    + 'Write `./three.sh`, or `configs/` or `python -m four`, or again `./three.sh`.\n'
    + block('python', 'import os\n\nprint(os)')
  )
  assert [(command.text, command.language) for command in readme.commands(page)] == [
    ('./one.sh --a=1', 'sh'),
    ('.venv/bin/python -m two    --b "x # y"', 'sh'),
    ('./three.sh', 'sh'),
    ('python -m four', 'sh'),
    ('import os\n\nprint(os)\n', 'python'),
  ]


@pytest.mark.parametrize('language', ['', 'bash', 'console'])
def test_a_block_that_would_go_untested_is_refused(language):
  with pytest.raises(ValueError, match=f"marked '{language}'"):
    readme.commands(block(language, 'ls'))


@pytest.mark.parametrize(
  'command',
  [
    './launch_tpu.sh configs/new.py',
    './launch_tpu.sh configs/cross_sport.py:seed=3',
    '.venv/bin/python -m crosstrainer_jax.pretrain',
    './run_tests.sh --slow',
  ],
)
def test_a_long_command_without_a_rule_is_refused(command):
  with pytest.raises(ValueError, match='no rule .* says how CI is to run'):
    list(readme.exercised(block('sh', command), CI))


# --- Running


def run(text: str, folder: pathlib.Path) -> str:
  return readme.run(readme.Command(text), folder)


def test_a_command_must_end_well_and_say_something(tmp_path):
  assert run('pwd', tmp_path) == ''
  assert run('true', tmp_path) == 'said nothing'
  assert run('echo out; echo why >&2; exit 3', tmp_path).split() == ['ended', 'with', '3', 'out', 'why']
  assert run('echo out; echo "Traceback (most recent call last):" >&2', tmp_path).startswith('ended with 0')
  assert run("echo '{}' --json | cut -c1-2", tmp_path) == ''
  assert run('echo text --json', tmp_path).startswith('no JSON')


def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch):
  monkeypatch.setattr(readme, 'LIMIT', 0.2)
  assert run('sleep 60 & sleep 60', tmp_path) == 'not done after 0.2 s'


def test_stand_ins_are_found_first(tmp_path, monkeypatch):
  monkeypatch.setattr(readme, 'STUBS', tmp_path)
  (tmp_path / 'ls').write_text('#!/bin/sh\necho stand-in; exit 7\n')
  (tmp_path / 'ls').chmod(0o755)
  assert run('ls', tmp_path) == 'ended with 7\nstand-in\n\n'


SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self.send_response(200); self.end_headers(); self.wfile.write(b'["stage1"]')
  def log_message(self, *words): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Answer)
print(f'at http://localhost:{server.server_port}/', file=sys.stderr, flush=True)
server.serve_forever()
"""


def test_tensorboard_is_asked_and_ended(tmp_path):
  (tmp_path / 'server.py').write_text(SERVER)
  assert run(f'{sys.executable} server.py tensorboard.main', tmp_path) == ''
  assert run('echo failed tensorboard.main >&2', tmp_path).startswith('TensorBoard gave no address\nfailed')


def test_the_own_videos_are_made_but_not_over_anyones(tmp_path):
  readme.write_videos(tmp_path)
  rows = [json.loads(line) for line in (tmp_path / 'manifest.jsonl').read_text().splitlines()]
  for name in [*(row['videos'] for row in rows), 'new_video.mp4']:
    with av.open(str(tmp_path / name)) as container:
      assert container.duration / 1e6 == pytest.approx(6)
  with pytest.raises(FileExistsError, match='manifest.jsonl'):
    readme.write_videos(tmp_path)


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
  (tmp_path / '.ci').mkdir()
  (tmp_path / '.ci' / 'run').write_text("step 'x' ./run_tests.sh\n")
  (tmp_path / 'page.md').write_text(block('sh', './run_tests.sh\nexit 4\necho fine'))
  monkeypatch.setattr(readme, 'ROOT', tmp_path)
  assert readme.main([str(tmp_path / 'page.md')]) == 1
  out = capsys.readouterr().out
  assert 'done    ./run_tests.sh  (a step of .ci/run)' in out
  assert 'ended with 4' in out
  assert out.endswith('3 commands of page.md, 1 failed\n')
