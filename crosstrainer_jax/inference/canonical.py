"""One name for phrases that mean the same: a map beside the phrases of discovery, which stay as they are.

The paper keeps the raw phrases (its word clouds show "follow-through" beside "follow through"); the map serves studies
and counts. Phrases are alike where the cosine of their sentence embeddings says so, by a BERT of a local folder, or
where the lexicon reads the same concept in them.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.discovery import lexicon, rules
from crosstrainer_jax.discovery.dataset import read_attribute_lines
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically

LEXICON = 'lexicon'
# Of more phrases the distances of all pairs do not fit; rarer ones join the group whose centre is near.
MOST_CLUSTERED = 4000


@dataclasses.dataclass(frozen=True)
class Canonical:
  """The map of a file of attributes, as it is written.

  Attributes:
    method: what made it: the lexicon's fingerprint, or the folder, and the threshold of cosine.
    phrases: raw → canonical, for every phrase of the file.
  """

  path: Path
  method: str
  phrases: dict[str, str]

  def describe(self, shown: int = 8) -> str:
    """The map as text: how many phrases became how many, and the largest groups."""
    groups = collections.defaultdict(list)
    for phrase, name in self.phrases.items():
      groups[name].append(phrase)
    lines = [f'canonical ({self.method}): {len(self.phrases)} phrases, {len(groups)} names']
    for name, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:shown]:
      if len(members) > 1:
        others = [phrase for phrase in members if phrase != name]
        lines.append(f'  {name}: {", ".join(others[:6])}{", …" if len(others) > 6 else ""}')
    return '\n'.join([*lines, f'written: {self.path}'])


def canonicalise(attributes: str | Path, method: str, threshold: float = 0.7) -> Canonical:
  """Makes the map of a file of `discover_dataset`, and writes it beside it as `<name>.canonical.json`.

  Args:
    method: `lexicon`, or the folder of a BERT or of sentence-transformers.
    threshold: cosine from which two groups of phrases are one (mean over their pairs).

  Raises:
    FileNotFoundError, ValueError: no such file or folder, or one that cannot be read.
  """
  attributes = as_path(attributes)
  lines = read_attribute_lines(attributes)
  counts = collections.Counter(phrase for line in lines for name in ('correct', 'incorrect') for phrase in line[name])
  if method == LEXICON:
    said, phrases = (
      f'lexicon-{rules.fingerprint()}',
      {phrase: lexicon.name_concept(phrase) or phrase for phrase in counts},
    )
  else:
    if not -1 <= threshold <= 1:
      raise ValueError(f'--threshold {threshold}: a cosine lies between -1 and 1')
    from crosstrainer_jax.models.text_encoder import TextEncoder

    ordered = ranked(counts)
    encoder = TextEncoder.load(method)
    said = f'{Path(method).resolve().name}@{encoder.fingerprint}, cosine {threshold:g}'
    phrases = cluster(ordered, encoder.embed(ordered), threshold)
  path = attributes.with_name(f'{attributes.stem}.canonical.json')
  content = {'method': said, 'phrases': dict(sorted(phrases.items()))}
  write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + '\n')
  return Canonical(path, said, phrases)


def read_canonical(path: str | Path) -> dict[str, str]:
  """Raw → canonical, of a file that `canonicalise` wrote. A phrase that is not in it stands for itself."""
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file. Make it: python -m crosstrainer_jax.discover --canonical …')
  try:
    phrases = json.loads(path.read_text(encoding='utf-8'))['phrases']
    return {str(raw): str(name) for raw, name in phrases.items()}
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path}: not a map of phrases ({error!r}); delete it and make it again') from error


def ranked(counts: Mapping[str, int]) -> list[str]:
  """Phrases from the most to the least frequent; of equally frequent ones the shorter, then by the alphabet."""
  return sorted(counts, key=lambda phrase: (-counts[phrase], len(phrase), phrase))


def cluster(phrases: Sequence[str], embeddings: np.ndarray, threshold: float) -> dict[str, str]:
  """Names each phrase after the first of its group: agglomerative clustering by the mean cosine between groups.

  Args:
    phrases: the most frequent first (`ranked`).
    embeddings: float[N, D], of length 1.
    threshold: mean cosine from which two groups are one.
  """
  if len(phrases) < 2:
    return {phrase: phrase for phrase in phrases}
  first, rest = embeddings[:MOST_CLUSTERED], embeddings[MOST_CLUSTERED:]
  labels = np.zeros(1, int)
  if len(first) > 1:
    # takes a second to import
    from sklearn.cluster import AgglomerativeClustering

    clustering = AgglomerativeClustering(
      n_clusters=None, metric='cosine', linkage='average', distance_threshold=1 - threshold
    )
    labels = clustering.fit_predict(first)
  # each group by its first member
  heads = {label: number for number, label in reversed(list(enumerate(labels)))}
  names = {phrase: phrases[heads[label]] for phrase, label in zip(phrases, labels, strict=False)}
  if len(rest):
    groups = sorted(heads)
    centres = np.stack([first[labels == group].mean(0) for group in groups])
    alike = rest @ centres.T  # the mean cosine with a group's members
    nearest = alike.argmax(1)
    for number, phrase in enumerate(phrases[MOST_CLUSTERED:]):
      near = alike[number, nearest[number]] >= threshold
      names[phrase] = phrases[heads[groups[nearest[number]]]] if near else phrase
  return names
