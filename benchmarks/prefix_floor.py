"""What texts score that have nothing to do with each other, in both protocols of the feedback scores.

    python benchmarks/prefix_floor.py                                        # commentary of the embedded world
    python benchmarks/prefix_floor.py runs/cross_sport/predictions/references.jsonl
    python benchmarks/prefix_floor.py ../shared/data/free_exercise_db/exercises.json --key instructions

The texts of a file are dealt out among themselves so that none meets itself or a copy, and each is scored against the
one that it met: stripped (crosstrainer_jax/evaluation/feedback.py), and with the fixed words before both sides, as
ExpertAF's released scorer leaves them in (prefix_kept.py). What a row scores above this floor is its own.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crosstrainer_jax.datasets.skillsim import grammar
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.evaluation import feedback, meteor, prefix_kept
from crosstrainer_jax.evaluation.bootstrap import Statistic
from crosstrainer_jax.evaluation.predictions import Reference

SCORES = ('BLEU-4', 'METEOR', 'ROUGE-L')


def read(path: Path, key: str) -> list[str]:
  """The texts of a file: lines of .txt, values of `key` anywhere in .json or in the lines of .jsonl.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is broken, or has less than two texts.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist')
  content = path.read_text(encoding='utf-8')
  try:
    if path.suffix == '.jsonl':
      texts = [text for line in content.splitlines() if line.strip() for text in values(json.loads(line), key)]
    elif path.suffix == '.json':
      texts = list(values(json.loads(content), key))
    else:
      texts = content.splitlines()
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from None
  texts = [text for text in texts if text.strip()]
  if len(set(texts)) < 2:
    raise ValueError(f'{path} has {len(set(texts))} different texts under {key!r}; --key may name another field')
  return texts


def values(tree: Any, key: str) -> Iterator[str]:
  """Every text under the field `key` of a JSON value."""
  if isinstance(tree, dict):
    for name, value in tree.items():
      if name == key:
        yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))
      else:
        yield from values(value, key)
  elif isinstance(tree, list):
    for item in tree:
      yield from values(item, key)


def embedded(count: int) -> list[str]:
  """What the expert says of the test clips of the embedded world."""
  world, rng = World(), np.random.default_rng(0)
  specs = (world.spec(sport, 'test', index) for sport in SPORTS for index in range(-(-count // len(SPORTS))))
  return [grammar.render(spec, noise=world.commentary_noise, rng=rng) for spec in specs][:count]


def strangers(texts: list[str], rng: np.random.Generator) -> list[str]:
  """The texts in an order in which none is at the place of a copy of it; such as cannot be helped stay."""
  order = rng.permutation(len(texts))
  for _ in range(100):
    wrong = [place for place, source in enumerate(order) if texts[place] == texts[source]]
    if not wrong:
      break
    for place, other in zip(wrong, rng.integers(len(texts), size=len(wrong)), strict=True):
      order[place], order[other] = order[other], order[place]
  return [texts[source] for source in order]


def floors(texts: list[str], seed: int) -> list[list[float]]:
  """BLEU-4, METEOR and ROUGE-L of strangers: stripped, and with the prefix kept."""
  said = strangers(texts, np.random.default_rng(seed))
  clips = [Reference(str(i), str(i), '', '', '', [], None, text) for i, text in enumerate(texts)]

  def each(statistics: dict[str, Statistic]) -> list[float]:
    return [float(s.score(s.sums[s.counted].sum(axis=0))) for s in statistics.values()]

  return [each(feedback.text_statistics(said, clips)), each(prefix_kept.prefix_kept_statistics(said, clips))]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('files', nargs='*', type=Path)
  parser.add_argument('--key', default='commentary', help='field of a JSON file that holds the texts')
  parser.add_argument('--texts', type=int, default=1272, help='at most so many of each file, drawn at random')
  parser.add_argument('--words', type=int, nargs=2, metavar=('LOW', 'HIGH'), help='only texts of so many words')
  parser.add_argument('--seeds', type=int, default=3)
  options = parser.parse_args()
  try:
    sources = {str(path): read(path, options.key) for path in options.files}
  except (FileNotFoundError, ValueError) as error:
    sys.exit(str(error))
  sources = sources or {'embedded world': embedded(options.texts)}
  if options.words:
    low, high = options.words
    sources = {name: [t for t in texts if low <= len(t.split()) <= high] for name, texts in sources.items()}
    if few := [name for name, texts in sources.items() if len(set(texts)) < 2]:
      sys.exit(f'{", ".join(few)}: less than two different texts of {low} to {high} words')
  print(f'{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}')
  print(f'{meteor.variant()}; mean over seeds 0 … {options.seeds - 1} of the shuffle (lowest–highest)')
  print(f'\n| texts | n | words | protocol | {" | ".join(SCORES)} |\n|---|---:|---:|---|---:|---:|---:|')
  for name, texts in sources.items():
    runs = []
    for seed in range(options.seeds):
      drawn = np.random.default_rng(seed).permutation(len(texts))[: options.texts]
      runs.append(floors([texts[i] for i in drawn], seed))
    words = np.mean([len(text.split()) for text in texts])
    for protocol, scores in zip(('stripped', prefix_kept.SUFFIX), np.moveaxis(np.array(runs), 0, -1), strict=True):
      cells = ' | '.join(f'{row.mean():.1f} ({row.min():.1f}–{row.max():.1f})' for row in scores)
      print(f'| {name} | {min(len(texts), options.texts)} | {words:.1f} | {protocol} | {cells} |')


if __name__ == '__main__':
  main()
