"""Why the level of proficiency is hardly found: what a linear reader of the frozen features knows, and of whom.

    python benchmarks/level_from_features.py runs/cross_sport

On a finished run's data and split: logistic regression of the level, and ridge regression of the number of faults
(which the level sets), on features that keep views and seconds apart. Takes of the training people are halved at
random: one half trains, so that the same reader is measured on other clips of the people it knows, on people it does
not, and on the sport it does not. Accuracy of a constant answer stands beside.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crosstrainer_jax import datasets, provenance
from crosstrainer_jax.run import Run, open_run


def parts_of(run: Run, seed: int) -> dict[str, list[int]]:
  """Clip indices: both halves of the training people's takes, validation people, test clips."""
  takes = sorted({run.clips[i].take for i in run.split.train})
  trained = set(np.random.default_rng(seed).permutation(takes)[: len(takes) // 2])
  return {
    'trained on': [i for i in run.split.train if run.clips[i].take in trained],
    'other clips of the same people': [i for i in run.split.train if run.clips[i].take not in trained],
    'other people': list(run.split.validation),
    'test': list(run.split.test),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('workdir', type=Path, help='a finished run on cached features')
  parser.add_argument('--data_dir', default='runs/datasets')
  parser.add_argument('--seeds', type=int, default=5, help='draws of the halves')
  options = parser.parse_args()
  config = provenance.recorded_config(options.workdir)
  run = open_run(config, options.workdir, datasets.prepare(config.data, options.data_dir))
  if run.video.cache is None:
    parser.error(f'{options.workdir} was trained from frames; the features are needed')
  seen = run.video.cache.gather(range(len(run.clips))).reshape(len(run.clips), -1).astype(np.float32)
  levels = np.array([clip.proficiency for clip in run.clips])
  counts = np.array([len(clip.faults) for clip in run.clips])

  found: dict[str, list[tuple[float, float]]] = {}
  for seed in range(options.seeds):
    parts = parts_of(run, seed)
    train = parts['trained on']
    level = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500)).fit(seen[train], levels[train])
    count = make_pipeline(StandardScaler(), RidgeCV(np.logspace(2, 5, 7))).fit(seen[train], counts[train])
    for name, part in parts.items():
      correlation = np.corrcoef(count.predict(seen[part]), counts[part])[0, 1]
      found.setdefault(name, []).append((100 * level.score(seen[part], levels[part]), correlation))

  print(f'\n{config.split.setting}, held out: {config.split.held_out}; mean of {options.seeds} draws')
  print(f'{"":32}{"clips":>6}{"people":>8}{"level":>8}{"constant":>10}{"number of faults, r":>21}')
  for name, part in parts.items():
    accuracy, correlation = np.mean(found[name], axis=0)
    people = len({run.clips[i].participant for i in part})
    constant = 100 * np.bincount(levels[part]).max() / len(part)
    print(f'{name:32}{len(part):6}{people:8}{accuracy:8.1f}{constant:10.1f}{correlation:21.2f}')


if __name__ == '__main__':
  main()
