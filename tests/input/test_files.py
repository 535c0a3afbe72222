"""Files are there whole or not at all."""

import pytest

from crosstrainer_jax.input.files import replacing, write_atomically


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
