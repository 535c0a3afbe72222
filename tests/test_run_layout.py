import pytest

from crosstrainer_jax import run_layout


@pytest.mark.parametrize(
  ('row', 'folder'),
  [(run_layout.CROSSTRAINER, 'stage2'), (run_layout.END_TO_END, 'rows/end_to_end_without_attributes/stage2')],
)
def test_every_row_has_a_folder(row, folder):
  assert run_layout.folder_of(row) == folder


def test_names_of_rows_make_names_of_folders():
  assert run_layout.row_folder('two towers, weak pairs') == 'rows/two_towers_weak_pairs'


def test_stages_have_one_each():
  assert run_layout.folder_of(run_layout.ZEROED, run_layout.STAGE1) == 'rows/video_zeroed/stage1'
