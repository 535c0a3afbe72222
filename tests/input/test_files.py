"""Files are there whole or not at all."""

import pytest

from crosstrainer_jax.input import files
from crosstrainer_jax.input.files import leftovers, replacing, write_atomically


def test_text_is_written_below_new_folders_and_over_what_was_there(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'page.md'
  write_atomically(path, 'köne\n')
  write_atomically(path, 'zweite\n')
  assert path.read_text(encoding='utf-8') == 'zweite\n'
  assert [p.name for p in path.parent.iterdir()] == ['page.md']


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
  path = tmp_path / 'page.md'
  write_atomically(path, 'old')
  with pytest.raises(UnicodeEncodeError):
    write_atomically(path, 'new \ud800')

  def interrupted():
    with replacing(path) as fresh:
      fresh.write_text('half')
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    interrupted()
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['page.md']


def test_a_folder_takes_the_place_of_an_old_one(tmp_path):
  for number in range(2):
    with replacing(tmp_path / 'words') as fresh:
      fresh.mkdir()
      (fresh / f'{number}.json').write_text('{}')
      assert not (tmp_path / 'words' / f'{number}.json').exists()
  assert [p.name for p in (tmp_path / 'words').iterdir()] == ['1.json']


def replace_folder(path):
  with replacing(path) as fresh:
    fresh.mkdir()
    (fresh / 'new.json').touch()


@pytest.fixture
def old(tmp_path):
  (tmp_path / 'model').mkdir()
  (tmp_path / 'model' / 'old.json').touch()
  return tmp_path / 'model'


def test_a_kill_while_the_old_folder_is_deleted_leaves_the_new_one_whole(old, monkeypatch):
  def killed(_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(files.shutil, 'rmtree', killed)
    with pytest.raises(KeyboardInterrupt):
      replace_folder(old)
  assert [p.name for p in old.iterdir()] == ['new.json']
  (left,) = leftovers(old)
  assert (left / 'old' / 'old.json').is_file()
  assert not leftovers(old.parent / 'mode')
  assert not leftovers(old.parent / 'nowhere' / 'model')


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(old, monkeypatch):
  replace = files.os.replace

  def refused(source, target):
    if target == old and source.name == old.name:
      raise OSError('not now')
    replace(source, target)

  monkeypatch.setattr(files.os, 'replace', refused)
  with pytest.raises(OSError, match='not now'):
    replace_folder(old)
  assert [p.name for p in old.iterdir()] == ['old.json']
  assert not leftovers(old)
