"""Paths that may lie in a bucket, gs://BUCKET/FOLDER: made, copied, and tried under a time limit.

Libraries below wait without end for a bucket that cannot be reached (array_record and tensorstore among them), so a
bucket is tried first, in a process of its own, which can be ended.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import cast

from etils import epath

LIMIT_SECONDS = 60.0
# Where Google's storage answers; the variable is the one that its clients take.
ENDPOINT = 'STORAGE_EMULATOR_HOST'


class BucketError(ValueError):
  """A bucket that cannot be used: the message says which, why and what to do."""


def in_bucket(path: str | os.PathLike[str]) -> bool:
  return os.fspath(path).startswith('gs://')


def as_path(path: str | os.PathLike[str]) -> Path:
  """A path of this machine, or one in a bucket, which has the same methods; `Path` itself would make gs:/… of it."""
  return cast(Path, epath.Path(path)) if in_bucket(path) else Path(path)


def on_this_machine(path: str | os.PathLike[str], name: str) -> Path:
  """A path of this machine.

  Args:
    name: what the user calls it, `--output` for example.

  Raises:
    BucketError: it lies in a bucket.
  """
  if in_bucket(path):
    raise BucketError(
      f'{name} {os.fspath(path)}: this must lie on this machine. gcloud storage cp -r copies it from or to a bucket'
    )
  return Path(path)


def upload(folder: Path, target: Path, last: str) -> None:
  """Copies a folder into a bucket. A bucket knows no folders, so that the file `last` tells whether all is there."""
  files = sorted((file for file in folder.rglob('*') if file.is_file()), key=lambda file: file.name == last)
  for file in files:
    epath.Path(file).copy(epath.Path(target / file.relative_to(folder).as_posix()), overwrite=True)


def local_copy(folder: Path) -> Path:
  """`folder` itself, or a copy on this machine where it lies in a bucket, for what reads local files alone."""
  if not in_bucket(folder):
    return folder
  place = Path(tempfile.mkdtemp(prefix='crosstrainer_jax-')) / folder.name
  place.mkdir()
  for file in folder.iterdir():
    if file.is_file():
      (place / file.name).write_bytes(file.read_bytes())
  return place


def size_and_time(path: Path) -> list[int]:
  """Bytes and time of the last change, by which a file is known to be the same."""
  if in_bucket(path):
    found = cast(epath.Path, path).stat()
    return [int(found.length), int(found.mtime or 0)]
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns]


def forget_listings() -> None:
  """Forgets what is known of folders in buckets, where another process has written since."""
  if 'gcsfs' in sys.modules:
    # as epath makes it: the same settings give the same object
    sys.modules['fsspec'].filesystem('gcs', finalize_on_close=True).invalidate_cache()


# --- Trying


def check(path: str | os.PathLike[str], name: str, write: bool, seconds: float | None = None) -> None:
  """Returns at once for a path of this machine, and for one in a bucket once that has answered.

  Args:
    name: what the user calls it, `--workdir` for example.
    write: whether it must be writable too.
    seconds: how long it may take; by default $CROSSTRAINER_BUCKET_SECONDS or 60.

  Raises:
    BucketError: it cannot be used, or did not answer in time.
  """
  if not in_bucket(path):
    return
  limit = seconds or float(os.environ.get('CROSSTRAINER_BUCKET_SECONDS', LIMIT_SECONDS))
  place = f'{name}={os.fspath(path)}'
  bucket, _, folder = os.fspath(path).removeprefix('gs://').partition('/')
  if not bucket or not folder:
    raise BucketError(f'{place}: write gs://BUCKET/FOLDER')
  command = [sys.executable, '-m', __name__, os.fspath(path), 'write' if write else 'read']
  done, said, step = True, '', 'starting'
  try:
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=limit).stdout
  except subprocess.TimeoutExpired as error:
    done, said = False, (error.stdout or b'').decode() if isinstance(error.stdout, bytes) else ''
  for line in said.splitlines():
    found = json.loads(line)
    step = found.get('step', step)
    if 'error' in found:
      raise BucketError(f'{place}: {found["error"]}')
    if found.get('well'):
      return
  if done:
    raise BucketError(f'{place}: {step} failed without a word; try {" ".join(command)}')
  raise BucketError(
    f'{place}: no answer within {limit:.0f} s, while {step}. Does this machine reach Google’s storage (a firewall? '
    'a proxy? a TPU without external IP and without Private Google Access?), and has it credentials (gcloud auth '
    'application-default login; on a TPU VM those of its service account)? CROSSTRAINER_BUCKET_SECONDS=… waits longer.'
  )


def _trial(path: str, write: bool) -> dict[str, object]:
  """Tries a bucket step by step, and says each on a line of JSON, so that who ends this knows how far it came."""
  bucket = path.removeprefix('gs://').partition('/')[0]
  server = os.environ.get(ENDPOINT, 'https://storage.googleapis.com')
  _say(step=f'reaching {server}')
  try:
    urllib.request.urlopen(f'{server}/storage/v1/b/{bucket}', timeout=LIMIT_SECONDS)
  except urllib.error.HTTPError as error:  # it answers; who may see the bucket is another question
    if error.code == 404:
      return {'error': f'there is no bucket {bucket}. Make it: gcloud storage buckets create gs://{bucket}'}
  except OSError as error:
    reason = getattr(error, 'reason', error)
    return {'error': f'{server} cannot be reached from here ({reason}); is there a firewall, or a proxy?'}
  try:
    _say(step='listing it with the credentials of this machine')
    folder = epath.Path(path)
    files = list(folder.iterdir()) if folder.exists() else []
    if write:
      _say(step='writing to it')
      probe = folder / f'.tried-{os.getpid()}'
      probe.write_text('')
      probe.unlink()
    for records in [file for file in files if '.array_record' in file.name][:1]:
      _say(step=f'reading {records.name}')
      from array_record.python.array_record_data_source import ArrayRecordDataSource

      len(ArrayRecordDataSource([str(records)]))
  except ImportError as error:
    return {'error': f'buckets need gcsfs ({error}): .venv/bin/python -m pip install -e .[gcs]'}
  except Exception as error:  # whatever a library of three says here, the user must hear
    reason = f'{type(error).__name__}: {str(error).strip()[:300]}'
    return {
      'error': f'it is there, but not for the credentials of this machine ({reason}). The account, on a TPU VM its '
      f'service account, needs the role roles/storage.objectUser: gcloud storage buckets add-iam-policy-binding '
      f'gs://{bucket} --member=… --role=roles/storage.objectUser'
    }
  return {'well': True}


def _say(**what: object) -> None:
  print(json.dumps(what), flush=True)


if __name__ == '__main__':
  _say(**_trial(sys.argv[1], sys.argv[2] == 'write'))
  os._exit(0)  # a library's thread may still wait
