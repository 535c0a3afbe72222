"""Videos are known by what they hold; where they lie matters only when one is read."""

import json
import os
import shutil

import pytest

from crosstrainer_jax.input import recordings
from crosstrainer_jax.input.recordings import Recordings, identify


@pytest.fixture
def videos(tmp_path):
  """Two files, and what an import says of them; the second clip has a view that is a copy."""
  for name, content in (('a', b'first'), ('b', b'second')):
    (tmp_path / name).write_bytes(content)
  a, b = (str(tmp_path / name) for name in 'ab')
  content = {'recordings': {'one': [a], 'two': [a, b]}, 'identities': {f: identify(f) for f in (a, b)}}
  (tmp_path / 'import.json').write_text(json.dumps(content))
  return tmp_path


def test_what_a_file_holds_names_it(tmp_path, monkeypatch):
  monkeypatch.setattr(recordings, '_LOOKED_AT', 4)
  file, other = tmp_path / 'a', tmp_path / 'b'
  file.write_bytes(b'head...middle...tail')
  shutil.copyfile(file, other)
  os.utime(other, (1, 1))
  assert identify(file) == identify(other)
  assert identify(file).startswith('20-')
  for changed in (b'hEad...middle...tail', b'head...middle...taiL', b'head...middle...tail.'):
    other.write_bytes(changed)
    assert identify(file) != identify(other)
  other.write_bytes(b'')
  assert identify(other).startswith('0-')


def test_clips_name_their_videos(videos):
  found = Recordings(videos / 'import.json')
  a, b = identify(videos / 'a'), identify(videos / 'b')
  assert found.of('one', '') == [a]
  assert found.of('two', '') == [a, b]
  assert found.name(b) == str(videos / 'b')
  found.check([a, b])
  assert found.file(a) == videos / 'a'


def test_records_with_frames_have_none(tmp_path):
  assert not Recordings(tmp_path / 'import.json')
  (tmp_path / 'import.json').write_text('{"rows": 3}')
  assert not Recordings(tmp_path / 'import.json')


def test_what_is_gone_or_another_is_named_with_the_remedy(videos):
  a, b = identify(videos / 'a'), identify(videos / 'b')
  (videos / 'a').write_bytes(b'fIrst')
  (videos / 'b').unlink()
  found = Recordings(videos / 'import.json')
  found.check([a])  # a look at sizes alone
  with pytest.raises(ValueError, match=r'/a: it was another video .*prepare the dataset again, with --overwrite'):
    found.file(a)
  (videos / 'a').write_bytes(b'longer than before')
  with pytest.raises(ValueError, match='/a: it was another video'):
    found.check([a])
  with pytest.raises(FileNotFoundError, match=r'/b: this video was there .*Put it back, or prepare'):
    found.check([b])


def test_an_import_of_the_former_version_is_refused(videos):
  content = json.loads((videos / 'import.json').read_text())
  del content['identities']
  (videos / 'import.json').write_text(json.dumps(content))
  with pytest.raises(ValueError, match=r'import\.json: it does not say what the videos hold; delete'):
    Recordings(videos / 'import.json')
