"""A WordNet of few words in the real file format: indices, data with byte offsets, senses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from nltk.corpus.util import LazyCorpusLoader

from crosstrainer_jax.evaluation import wordnet

# Part of speech → synsets.
SYNSETS: Mapping[str, Sequence[Sequence[str]]] = {
  'noun': (('ball',), ('foot', 'human_foot'), ('shot', 'stroke')),
  'verb': (('begin', 'start', 'commence'), ('kick',), ('start', 'jump')),
  'adj': (('near', 'close'),),
  'adv': (('quickly', 'rapidly'),),
}
LETTERS = {'noun': 'n', 'verb': 'v', 'adj': 'a', 'adv': 'r'}
NUMBERS = {'noun': 1, 'verb': 2, 'adj': 3, 'adv': 4}
LEXNAME = {'noun': 4, 'verb': 30, 'adj': 0, 'adv': 2}


def write(folder: Path, version: str = '3.0') -> Path:
  """Writes the database files of `wndb(5WN)`, without lexnames, as Debian has them; returns the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  senses = []
  for part, synsets in SYNSETS.items():
    letter = LETTERS[part]
    data = f'  1 WordNet {version} Copyright 2006 by nobody.  \n'
    offsets: dict[str, list[int]] = {}
    for words in synsets:
      offset = len(data)
      for word in words:
        offsets.setdefault(word, []).append(offset)
        number = len(offsets[word])
        key = f'{word}%{NUMBERS[part]}:{LEXNAME[part]:02d}:{number:02d}::'
        senses.append(f'{key} {offset:08d} {number} 0')
      listed = ' '.join(f'{word} 0' for word in words)
      frames = '01 + 08 00 ' if part == 'verb' else ''
      data += f'{offset:08d} {LEXNAME[part]:02d} {letter} {len(words):02x} {listed} 000 {frames}| a meaning  \n'
    (folder / f'data.{part}').write_text(data)
    index = [
      f'{word} {letter} {len(at)} 0 {len(at)} 0 {" ".join(f"{offset:08d}" for offset in at)}  '
      for word, at in sorted(offsets.items())
    ]
    head = f'  1 WordNet {version} Copyright 2006 by nobody.  \n'
    (folder / f'index.{part}').write_text(head + '\n'.join(index) + '\n')
    (folder / f'{part}.exc').write_text('feet foot\n' if part == 'noun' else '')
  (folder / 'index.sense').write_text('\n'.join(sorted(senses)) + '\n')
  (folder / 'cntlist.rev').write_text('')
  return folder


@pytest.fixture
def closed_readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
  """Closes the files that nltk's readers leave open for as long as the process lives."""
  readers: list[Any] = []

  def load(*arguments: Any) -> Any:
    readers.append(LazyCorpusLoader(*arguments))
    return readers[-1]

  monkeypatch.setattr(wordnet, 'LazyCorpusLoader', load)
  yield
  for reader in readers:
    for file in vars(reader).get('_data_file_map', {}).values():
      file.close()
