"""The export verb."""

import ast
import json
import pathlib
import shutil

import pytest

from crosstrainer_jax import export as verb

EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'assess_with_torch.py'


@pytest.fixture(scope='module')
def folder(small_run, tmp_path_factory):
  """An export by the verb."""
  folder = tmp_path_factory.mktemp('exported') / 'model'
  verb.main([str(small_run), '--output', str(folder), '--clips', '2'])
  return folder


def test_help_needs_no_model(capsys):
  with pytest.raises(SystemExit) as stop:
    verb.main(['--help'])
  assert stop.value.code == 0
  shown = capsys.readouterr().out
  for option in ('--output', '--clips', '--dtype', '--overwrite', '--dry-run', '--encoder_weights', 'docs/export.md'):
    assert option in shown


def test_a_dry_run_lists_what_is_written(folder, small_run, tmp_path, capsys):
  verb.main([str(small_run), '--output', str(tmp_path / 'new'), '--clips', '2', '--dry-run'])
  assert not list(tmp_path.iterdir())
  listed = {line.split()[0].rstrip('/'): line for line in capsys.readouterr().out.splitlines()[1:]}
  assert set(listed) == {path.name for path in folder.iterdir()}
  for unit in (' B ', ' kB ', ' MB '):
    assert any(unit in line for line in listed.values())


def test_what_is_there_stays_unless_it_may_be_replaced(folder, small_run, tmp_path, capsys):
  with pytest.raises(SystemExit, match='error: .*holds an export: .*--overwrite'):
    verb.main([str(small_run), '--output', str(folder)])
  foreign = tmp_path / 'foreign'
  foreign.mkdir()
  (foreign / 'thesis.tex').write_text('years of work')
  for options in ([], ['--overwrite'], ['--overwrite', '--dry-run']):
    with pytest.raises(SystemExit, match='error: .*is no export'):
      verb.main([str(small_run), '--output', str(foreign), *options])
  assert (foreign / 'thesis.tex').read_text() == 'years of work'
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  verb.main([str(small_run), '--output', str(copy), '--overwrite'])
  assert 'model card' in capsys.readouterr().out
  assert not (copy / 'expected.json').exists()
  assert json.loads((copy / 'prompts.json').read_text()) == json.loads((folder / 'prompts.json').read_text())


def test_a_link_is_refused_and_what_a_kill_left_is_named(folder, small_run, tmp_path, capsys):
  (tmp_path / 'link').symlink_to(folder)
  with pytest.raises(SystemExit, match='error: .*link is a symbolic link: give the folder itself'):
    verb.main([str(small_run), '--output', str(tmp_path / 'link'), '--overwrite'])
  (tmp_path / '.new.0a1b2c3d').mkdir()
  verb.main([str(small_run), '--output', str(tmp_path / 'new'), '--dry-run'])
  assert '.new.0a1b2c3d (0.0 GB) was left by an export that was killed' in capsys.readouterr().out


def test_an_unfinished_run_says_how_to_go_on(small_run, tmp_path):
  with pytest.raises(SystemExit, match='error: .*has no config.json'):
    verb.main([str(tmp_path), '--output', str(tmp_path / 'out')])
  shutil.copy(small_run / 'config.json', tmp_path / 'config.json')
  with pytest.raises(SystemExit, match='error: .*model.json is missing.*start its launch command again'):
    verb.main([str(tmp_path), '--output', str(tmp_path / 'out')])
  assert not (tmp_path / 'out').exists()


def test_a_failure_leaves_nothing(small_run, tmp_path, monkeypatch):
  from crosstrainer_jax.inference import export

  def broken(*_):
    raise OSError('no space left on device')

  monkeypatch.setattr(export, 'write_tensors', broken)
  with pytest.raises(SystemExit, match='error: no space left'):
    verb.main([str(small_run), '--output', str(tmp_path / 'out')])
  assert not list(tmp_path.iterdir())


def test_the_example_is_short_and_needs_little():
  text = EXAMPLE.read_text()
  assert len(text.splitlines()) <= 100
  tree = ast.parse(text)
  names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
  names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
  packages = {name.partition('.')[0] for name in names}
  assert packages == {'argparse', 'json', 'pathlib', 're', 'numpy', 'safetensors', 'torch', 'transformers'}
