"""WordNet 3.0 for METEOR: found where nltk looks, built from a folder of its database files, or downloaded.

    python -m crosstrainer_jax.evaluation.wordnet                          # whatever of the three ways works here
    python -m crosstrainer_jax.evaluation.wordnet --from /usr/share/wordnet  # offline

Offline, Debian and Ubuntu have the files in the packages wordnet-base and wordnet-sense-index (apt-get install, or
dpkg-deb -x of both files into any folder). nltk needs one file more, `lexnames`, which is short and is written here.
NLTK_DATA may name a folder that has corpora/wordnet already. Only version 3.0 is taken: that is nltk's `wordnet`, and
scores with another version are not comparable.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from crosstrainer_jax.input.files import replacing

VERSION = '3.0'
# Where Debian puts the database.
INSTALLED = Path('/usr/share/wordnet')
_NOUNS = """
  Tops act animal artifact attribute body cognition communication event feeling food group location motive object person
  phenomenon plant possession process quantity relation shape state substance time
"""
_VERBS = """
  body change cognition communication competition consumption contact creation emotion motion perception possession
  social stative weather
"""
# Lexicographer files in their order, and the number of their part of speech (lexnames(5WN)).
LEXNAMES = (
  *(('adj.all', 3), ('adj.pert', 3), ('adv.all', 4)),
  *((f'noun.{name}', 1) for name in _NOUNS.split()),
  *((f'verb.{name}', 2) for name in _VERBS.split()),
  ('adj.ppl', 3),
)


def cache_folder() -> Path:
  """Where a WordNet that was built or downloaded is kept, in nltk's layout."""
  return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'crosstrainer_jax' / 'nltk_data'


def find() -> Any | None:
  """nltk's reader of WordNet, or None where there is no whole WordNet 3.0; looks in the cache folder as well."""
  if str(cache_folder()) not in nltk.data.path:
    nltk.data.path.append(str(cache_folder()))
  # what nltk.corpus.wordnet is, without its other languages, and looked for anew
  reader = LazyCorpusLoader('wordnet', WordNetCorpusReader, object())
  try:
    reader.synsets('ball')  # loads the data: a folder with a file missing fails here, not midway
    return reader if reader.get_version() == VERSION else None
  except (LookupError, OSError, ValueError):
    return None


def obtain(timeout: float = 60) -> bool:
  """Gets WordNet if it is not there: from the files that Debian installs, else by a download. Says what it does.

  Args:
    timeout: seconds that the download may take, all in all.

  With CROSSTRAINER_WORDNET=off nothing is got, with HF_HUB_OFFLINE=1 nothing downloaded.

  Returns:
    whether WordNet is there now. That it is not is no error: METEOR is then computed without synonyms, and named so.
  """
  if find() is not None:
    return True
  if os.environ.get('CROSSTRAINER_WORDNET') == 'off':
    return False
  if INSTALLED.is_dir():
    try:
      print(f'WordNet: built from {INSTALLED}, {build(INSTALLED)}', flush=True)
      return find() is not None
    except (FileNotFoundError, ValueError) as error:
      print(f'WordNet: {error}', flush=True)
  if os.environ.get('HF_HUB_OFFLINE', '').upper() in ('1', 'ON', 'YES', 'TRUE'):
    return False
  return _download(cache_folder(), timeout)


@functools.cache
def _download(folder: Path, timeout: float) -> bool:
  """Tried once by a process: a sweep does not wait before each of its runs for what cannot be had."""
  print(f'WordNet: downloading it (11 MB) to {folder}, at most {timeout:.0f} s …', flush=True)
  # in a process of its own, since nltk's downloader knows no timeout
  command = [sys.executable, '-m', 'nltk.downloader', '-q', '-e', '-d', str(folder), 'wordnet']
  with contextlib.suppress(subprocess.SubprocessError, OSError):
    subprocess.run(command, check=False, timeout=timeout, capture_output=True)
  if find() is not None:
    return True
  print(
    'WordNet: not to be had online. METEOR is computed without synonyms (METEOR-es); offline see '
    'python -m crosstrainer_jax.evaluation.wordnet --help',
    flush=True,
  )
  return False


def build(source: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Path:
  """Makes `corpora/wordnet` in nltk's layout from a folder of WordNet 3.0 database files, and checks it.

  Args:
    source: holds the files of `wndb(5WN)` with index.sense and cntlist.rev, as Debian's two packages install them.
    target: folder of nltk's data; by default the cache folder.

  Returns:
    the folder that was made.

  Raises:
    FileNotFoundError: the folder lacks files, and which.
    ValueError: another version, or nltk cannot read it.
  """
  source, target = Path(source), Path(target or cache_folder())
  files = [name for name in WordNetCorpusReader._FILES if name != 'lexnames']
  if missing := [name for name in files if not (source / name).is_file()]:
    raise FileNotFoundError(
      f'{source} lacks {", ".join(missing)} of WordNet. On Debian and Ubuntu they are in the packages wordnet-base and '
      'wordnet-sense-index'
    )
  with replacing(target / 'corpora' / 'wordnet') as folder:
    folder.mkdir()
    for name in files:
      shutil.copyfile(source / name, folder / name)
    lines = (f'{number:02d}\t{name}\t{part}\n' for number, (name, part) in enumerate(LEXNAMES))
    (folder / 'lexnames').write_text(''.join(lines))
    _check(folder, source)
  return target / 'corpora' / 'wordnet'


def _check(folder: Path, source: Path) -> None:
  """Raises ValueError unless the files are of WordNet 3.0 and belong together: indices point into the data by bytes."""
  head = (folder / 'data.adj').read_bytes()[:4000].decode('ascii', 'replace')
  version = re.search(r'WordNet (\d+\.\d+) Copyright', head)
  if version is None or version[1] != VERSION:
    raise ValueError(f'{source} holds WordNet {version[1] if version else "of an unknown version"}, not {VERSION}')
  for part in ('adj', 'adv', 'noun', 'verb'):
    fields = (folder / f'index.{part}').read_bytes().rstrip().rsplit(b'\n', 1)[-1].split()
    with (folder / f'data.{part}').open('rb') as data:
      data.seek(int(fields[-1]) if fields and fields[-1].isdigit() else 0)
      found = data.readline().lower().split()
    if fields[-1:] != found[:1] or fields[0] not in found:
      raise ValueError(f'{source}: index.{part} and data.{part} do not belong together; get both again')


def main(arguments: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.evaluation.wordnet',
    description=__doc__,
    formatter_class=argparse.RawTextHelpFormatter,
  )
  parser.add_argument('--from', dest='source', metavar='FOLDER', help='database files of WordNet 3.0; no download')
  source = parser.parse_args(arguments).source
  if source:
    try:
      print(f'WordNet is in {build(source)}')
    except (FileNotFoundError, ValueError) as error:
      print(error, file=sys.stderr)
      return 1
    return 0
  if not obtain():
    return 1
  print('WordNet is there: METEOR is computed with synonyms')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
