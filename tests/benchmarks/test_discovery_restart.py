import importlib.util
import pathlib
import re
import sys

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'discovery_restart.py'


def test_a_killed_discovery_repeats_only_what_was_under_way(monkeypatch, capfd):
  spec = importlib.util.spec_from_file_location('discovery_restart', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  small = ['--comments', '60', '--concurrency', '4', '--seconds', '0.02']
  monkeypatch.setattr(sys, 'argv', ['discovery_restart.py', *small])
  module.main()
  shown = {name.strip(): int(count) for name, count in re.findall(r'^(\D+?) {2,}(\d+)', capfd.readouterr().out, re.M)}
  before, after = shown['calls before the kill'], shown['calls after the restart']
  assert 30 <= before < 60
  assert shown['asked twice'] == before + after - 60
  assert 0 <= shown['asked twice'] <= 4
  assert shown['a third start'] == 0
  assert shown['clips with attributes'] == 60
