"""What of a checkout goes to the workers."""

import pathlib
import subprocess
import tarfile

from pods import checkout


def _write(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(name)


def _git(root, *command):
  settings = ['-c', 'user.name=n', '-c', 'user.email=e@x', '-c', 'commit.gpgsign=false']
  subprocess.run(['git', '-C', str(root), *settings, *command], check=True, capture_output=True)


def test_a_git_checkout_goes_with_what_is_not_committed(tmp_path):
  root, archive = tmp_path / 'checkout', tmp_path / 'archive.tar.gz'
  _write(root, 'kept.py', 'deleted.py', 'a folder/kept.py')
  (root / '.gitignore').write_text('runs/\n')
  _git(tmp_path, 'init', '-q', str(root))
  _git(root, 'add', '-A')
  _git(root, 'commit', '-qm', 'first')
  assert checkout.pack(root, archive).endswith(f'commit {checkout.commit_of(root)[0][:12]}')
  (root / 'deleted.py').unlink()
  _write(root, 'new.py', 'runs/big', 'kept.py')
  (root / 'kept.py').write_text('changed')
  assert checkout.pack(root, archive).endswith('with 3 files that differ from it')
  with tarfile.open(archive) as tar:
    assert sorted(tar.getnames()) == ['.commit', '.gitignore', 'a folder/kept.py', 'kept.py', 'new.py']
    assert tar.extractfile('kept.py').read() == b'changed'
    assert tar.extractfile('.commit').read().decode() == f'{checkout.commit_of(root)[0]}\ndirty\n'


def test_a_folder_without_git_goes_without_what_was_made_in_it(tmp_path):
  root, archive = tmp_path / 'checkout', tmp_path / 'archive.tar.gz'
  _write(root, 'kept.py', '.venv/bin/python', 'runs/a/b', 'x/__pycache__/y.pyc')
  assert 'no git checkout' in checkout.pack(root, archive)
  assert list(checkout.carried(root)) == [pathlib.Path('kept.py')]
  with tarfile.open(archive) as tar:
    assert tar.extractfile('.commit').read() == b'\nclean\n'
