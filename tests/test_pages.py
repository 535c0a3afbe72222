"""Blocks of pages that commands write to."""

import pytest

from crosstrainer_jax.pages import replace_block
from crosstrainer_jax.settings import SettingsError


def test_only_the_block_of_that_name_changes(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('a\n<!-- sweep:one -->\nold\n<!-- end -->\nb\n<!-- eval:one: x, y -->\n<!-- end -->\n')
  replace_block(page, 'eval:one', lambda columns, folder: f'{columns} in {folder.name}')
  assert page.read_text() == (
    'a\n<!-- sweep:one -->\nold\n<!-- end -->\nb\n<!-- eval:one: x, y -->\n\n'
    f"['x', 'y'] in {tmp_path.name}\n\n<!-- end -->\n"
  )
  replace_block(page, 'sweep:one', lambda columns, folder: None)
  assert '\nold\n' in page.read_text()


def test_a_page_without_a_place_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no page'):
    replace_block(tmp_path / 'none.md', 'eval:one', lambda columns, folder: '')
  page = tmp_path / 'page.md'
  page.write_text('<!-- eval:one -->\nno end\n')
  with pytest.raises(SettingsError, match='put the lines <!-- eval:one --> and <!-- end -->'):
    replace_block(page, 'eval:one', lambda columns, folder: '')
