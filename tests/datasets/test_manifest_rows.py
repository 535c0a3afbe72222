"""Rows of a manifest: what they may say, and what is said of a mistake."""

import dataclasses
import pathlib

import pytest

from crosstrainer_jax.datasets.manifest import rows
from crosstrainer_jax.input import record


@pytest.fixture
def problem_of(write_manifest):
  """What `read_manifest` says of a manifest with a mistake."""

  def read(folder, *members, name='manifest.jsonl'):
    with pytest.raises(rows.ManifestError) as caught:
      rows.read_manifest(write_manifest(folder, *members, name=name))
    return str(caught.value)

  return read


def test_a_full_row(tmp_path, row, write_manifest):
  full = row(
    ['left.mp4', 'sub/right.mp4'], views=['l', 'r'], take='t1', split='test', commentary=' Good   balance. ', time=2,
    proficiency='Early-Expert', faults=['balance'], licence='CC0-1.0', provenance='my phone',
  )  # fmt: skip
  (read,) = rows.read_manifest(write_manifest(tmp_path, '', full))
  assert read.line == 2
  assert (read.videos, read.views) == (('left.mp4', 'sub/right.mp4'), ('l', 'r'))
  assert (read.commentary, read.time, read.take, read.split) == ('Good balance.', 2.0, 't1', 'test')
  assert (record.LEVELS[read.proficiency], read.faults) == ('early expert', ('balance',))
  assert (read.licence, read.provenance) == ('CC0-1.0', 'my phone')


def test_defaults(tmp_path, row, write_manifest):
  (read,) = rows.read_manifest(write_manifest(tmp_path, row('day1/kick.mp4')))
  assert (read.take, read.views, read.proficiency, read.faults, read.split) == ('kick', ('main',), -1, None, '')
  (read,) = rows.read_manifest(write_manifest(tmp_path, row(['a.mp4', 'b.mp4'])))
  assert read.views == ('view1', 'view2')


def test_csv_with_view_columns_lists_and_bom(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text(
    '\ufeffvideo_left,video_right,sport,skill,participant,time,commentary,faults\n'
    'l.mp4,r.mp4,soccer,dribbling,ann,1.5,"Knees, please",knee bend;balance\n'
    'l.mp4,,soccer,dribbling,ann,,,\n'
  )
  both, one = rows.read_manifest(path)
  assert (both.videos, both.views) == (('l.mp4', 'r.mp4'), ('left', 'right'))
  assert (both.time, both.commentary, both.faults) == (1.5, 'Knees, please', ('knee bend', 'balance'))
  assert (one.videos, one.time, one.faults) == (('l.mp4',), None, None)


def test_csv_with_semicolons_between_views(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text('videos,views,sport,skill,participant\nl.mp4;r.mp4,left;right,soccer,dribbling,ann\n')
  assert rows.read_manifest(path)[0].views == ('left', 'right')


@pytest.mark.parametrize(
  ('fields', 'field', 'fix'),
  [
    ({'comentary': 'x'}, 'comentary', "did you mean 'commentary'"),
    ({'license': 'x'}, 'license', "did you mean 'licence'"),
    ({'zzz': 1}, 'zzz', 'known: videos'),
    ({'sport': None}, 'sport', 'missing'),
    ({'proficiency': 'pro'}, 'proficiency', 'novice, intermediate'),
    ({'split': 'dev'}, 'split', 'train, validation, test'),
    ({'time': '3'}, 'time', 'seconds'),
    ({'time': -1}, 'time', 'seconds'),
    ({'time': True}, 'time', 'seconds'),
    ({'commentary': 'x'}, 'time', 'missing'),
    ({'commentary': 'x', 'time': 1, 'start': 0}, 'time', 'not both'),
    ({'commentary': 'x', 'start': 3, 'end': 2}, 'end', 'not after'),
    ({'captions': 'a.srt', 'commentary': 'x', 'time': 1}, 'commentary', 'row of its own'),
    ({'captions': 'a.srt', 'faults': []}, 'faults', 'row of its own'),
    ({'faults': [3]}, 'faults', 'list of texts'),
    ({'sport': 3}, 'sport', 'quotes'),
    ({'videos': []}, 'videos', 'at least one'),
    ({'videos': ['a.mp4', 'a.mp4']}, 'videos', 'twice'),
    ({'views': ['l', 'r']}, 'views', '2 names for 1'),
    ({'videos': '../a.mp4'}, 'videos', 'leaves the root'),
    ({'videos': 'sub/../../a.mp4'}, 'videos', 'leaves the root'),
    ({'videos': '/etc/a.mp4'}, 'videos', 'absolute'),
    ({'videos': 'C:\\a.mp4'}, 'videos', 'absolute'),
    ({'captions': '../a.srt'}, 'captions', 'leaves the root'),
  ],
)
def test_a_problem_names_manifest_line_field_and_fix(tmp_path, fields, field, fix, row, problem_of):
  message = problem_of(tmp_path, row(), {**row('b.mp4'), **fields})
  assert message.startswith(f'{tmp_path / "manifest.jsonl"} line 2, field {field!r}: ')
  assert fix in message
  assert '\n' not in message


def test_all_problems_are_reported_at_once(tmp_path, row, problem_of):
  message = problem_of(tmp_path, row(sport=''), '{', '[]', row(), row())
  assert [line.split(' line ')[1].split(':')[0] for line in message.splitlines()] == ["1, field 'sport'", '2', '3', '5']
  assert 'the same as line 4' in message


def test_a_participant_belongs_to_one_split(tmp_path, row, problem_of):
  message = problem_of(tmp_path, row(split='train'), row('b.mp4', split='test'))
  assert "line 2, field 'split'" in message
  assert "'train' on line 1" in message


def test_a_video_belongs_to_one_split(tmp_path, row, problem_of):
  message = problem_of(tmp_path, row(split='train'), row(['b.mp4', 'a.mp4'], participant='bob', split='test'))
  assert "line 2, field 'split'" in message
  assert 'a video belongs to one split' in message


def test_csv_problems(tmp_path, problem_of):
  assert 'export it with commas' in problem_of(tmp_path, 'videos;sport;skill', 'a;b;c', name='m.csv')
  head = 'videos,sport,skill,participant'
  assert 'line 2: more cells' in problem_of(tmp_path, head, 'a.mp4,soccer,dribbling,ann,Good,', name='m.csv')
  assert "'x' is no number" in problem_of(tmp_path, head + ',time', 'a.mp4,soccer,dribbling,ann,x', name='m.csv')
  assert 'not both' in problem_of(tmp_path, head + ',video_l', 'a.mp4,soccer,dribbling,ann,l.mp4', name='m.csv')


def test_other_files(tmp_path, row, problem_of):
  with pytest.raises(FileNotFoundError, match=r'gone\.csv'):
    rows.read_manifest(tmp_path / 'gone.csv')
  assert 'jsonl or .csv' in problem_of(tmp_path, row(), name='m.xlsx')
  assert 'no rows' in problem_of(tmp_path, '')
  (tmp_path / 'm.csv').write_bytes('videos,sport\nä'.encode('latin-1'))
  with pytest.raises(rows.ManifestError, match='UTF-8'):
    rows.read_manifest(tmp_path / 'm.csv')


def test_a_link_out_of_the_root_is_refused(tmp_path, write_video, row, problem_of):
  outside = write_video(tmp_path / 'outside.mp4', 0.5)
  root = tmp_path / 'root'
  root.mkdir()
  (root / 'link.mp4').symlink_to(outside)
  assert 'leaves the root' in problem_of(root, row('link.mp4'))


def test_same_file_names_are_different_takes(tmp_path, row, write_manifest):
  path = write_manifest(tmp_path, row('day1/a.mp4'), row('day2/a.mp4'), row('day2/a.mp4', time=1, commentary='x'))
  assert [r.take for r in rows.read_manifest(path)] == ['day1/a', 'day2/a', 'day2/a']


def test_two_people_may_name_their_files_alike(tmp_path, row, write_manifest):
  members = row('ann/kick.mov'), row('ben/kick.webm', participant='ben'), row('x/b.mp4', take='kick'), row('c.mp4')
  takes = [r.take for r in rows.read_manifest(write_manifest(tmp_path, *members))]
  assert takes == ['ann/kick', 'ben/kick', 'kick', 'c']


def test_blanks_are_no_name(tmp_path, row, problem_of):
  assert "field 'sport': missing" in problem_of(tmp_path, row(sport=' '))
  assert "field 'participant': missing" in problem_of(tmp_path, row(participant='\t'))


def test_the_guide_is_true(tmp_path):
  guide = (pathlib.Path(__file__).parents[2] / 'docs/own_videos.md').read_text()
  blocks = guide.split('```')
  (tmp_path / 'm.jsonl').write_text(next(b for b in blocks if b.startswith('json\n')).removeprefix('json\n'))
  (tmp_path / 'm.csv').write_text(next(b for b in blocks if b.startswith('\nvideos,')).lstrip())
  read = rows.read_manifest(tmp_path / 'm.jsonl')
  assert len(read) == 3
  assert [dataclasses.replace(r, line=0) for r in read] == [
    dataclasses.replace(r, line=0) for r in rows.read_manifest(tmp_path / 'm.csv')
  ]
  table = [line.split('|')[1] for line in guide.splitlines() if line.startswith('| `')]
  assert sorted(name.strip(' `') for cell in table for name in cell.split(',')) == sorted(rows.FIELDS)
