import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from crosstrainer_jax.discovery import dataset
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer
from crosstrainer_jax.input.record import Clip, features_dict

COMMENTS = {
  'train': ['You wobble.', '', 'Great timing, but the knees are locked.', 'You rush.'],
  'test': ['Nice balance.', '  '],
}


class Tiny(tfds.core.GeneratorBasedBuilder):
  """Six clips of two sports, with known faults where there is a comment."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(builder=self, features=features_dict())

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in COMMENTS}

  def _generate_examples(self, split):
    faults = {'You wobble.': ['balance'], 'You rush.': ['timing'], COMMENTS['train'][2]: ['knee bend', 'head position']}
    for i, text in enumerate(COMMENTS[split]):
      clip = Clip(
        f'{split}-{i}',
        'tiny',
        'soccer' if i % 2 else 'fitness',
        'pass',
        'p',
        't',
        views=['a'],
        frames=np.zeros((1, 2, 4, 4, 3), np.uint8),
        frame_times=np.zeros((1, 2), np.float32),
        commentary=text,
        faults=faults.get(text, []),
        has_faults=split == 'train',
      )
      yield clip.clip_id, clip.to_example()


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  builder = Tiny(data_dir=tmp_path_factory.mktemp('data'), file_format='array_record')
  builder.download_and_prepare()
  return builder.data_dir


class Counting:
  """A backend that counts its calls, dies after some of them, and cannot read one comment."""

  fingerprint = 'counting-1'

  def __init__(self, dies_after: int = 10, unreadable: str = ''):
    self.calls, self.dies_after, self.unreadable = 0, dies_after, unreadable

  def discover_many(self, comments):
    for number, (commentary, sport) in enumerate(comments):
      if self.calls == self.dies_after:
        raise KeyboardInterrupt
      self.calls += 1
      yield number, Unreadable('it rambles') if commentary == self.unreadable else Attributes([], [sport])

  def discover(self, commentary: str, sport: str) -> Attributes:
    raise AssertionError


@pytest.fixture
def counting():
  return Counting()


def test_every_comment_gets_a_line_and_the_report_counts(directory, tmp_path):
  output = tmp_path / 'new' / 'attributes.jsonl'
  report = dataset.discover_dataset(directory, output, progress=False)
  lines = [json.loads(line) for line in output.read_text().splitlines()]
  assert {line['clip_id'] for line in lines} == {'train-0', 'train-2', 'train-3', 'test-0'}
  (line,) = [line for line in lines if line['clip_id'] == 'train-2']
  assert line == {
    'clip_id': 'train-2',
    'take': 't',
    'sport': 'fitness',
    'text_sha': dataset.text_sha(COMMENTS['train'][2]),
    'backend': LexiconDiscoverer().fingerprint,
    'correct': ['timing'],
    'incorrect': ['knee bend'],
  }
  assert (report.clips, report.silent, report.kept, report.faulty) == (6, 2, 0, 3)
  assert report.phrases == {'fitness': {'balance': 1, 'knee bend': 1}, 'soccer': {'speed control': 1}}
  assert [path.name for path in output.parent.iterdir()] == ['attributes.jsonl']
  text = report.describe()
  assert '6 clips: 2 without commentary skipped, 0 kept' in text
  assert 'fitness: balance (1), knee bend (1)' in text


def test_agreement_covers_the_clips_whose_faults_are_known(directory, tmp_path):
  counts = dataset.discover_dataset(directory, tmp_path / 'a.jsonl', progress=False).agreement
  assert {name: (c.hits, c.false_alarms, c.misses) for name, c in counts.items()} == {
    'balance': (1, 0, 0),
    'head position': (0, 0, 1),
    'knee bend': (1, 0, 0),
    'speed control': (0, 1, 0),
    'timing': (0, 0, 1),
  }


def test_read_attributes_is_the_inverse(directory, tmp_path):
  dataset.discover_dataset(directory, tmp_path / 'a.jsonl', progress=False)
  found = dataset.read_attributes(tmp_path / 'a.jsonl')
  assert found['train-2'] == Attributes(['timing'], ['knee bend'])
  assert len(found) == 4


def test_a_second_run_keeps_the_lines(directory, tmp_path, counting):
  output = tmp_path / 'a.jsonl'
  dataset.discover_dataset(directory, output, counting, progress=False)
  before = output.read_bytes()
  report = dataset.discover_dataset(directory, output, counting, progress=False)
  assert (counting.calls, report.kept) == (4, 4)
  assert output.read_bytes() == before


@pytest.mark.parametrize(('field', 'value'), [('text_sha', 'other text'), ('backend', 'other rules')])
def test_a_line_of_another_text_or_backend_is_made_anew(directory, tmp_path, counting, field, value):
  output = tmp_path / 'a.jsonl'
  dataset.discover_dataset(directory, output, counting, progress=False)
  first, *rest = output.read_text().splitlines()
  output.write_text('\n'.join([json.dumps({**json.loads(first), field: value}), *rest]))
  report = dataset.discover_dataset(directory, output, counting, progress=False)
  assert (counting.calls, report.kept) == (5, 3)
  assert {line['backend'] for line in map(json.loads, output.read_text().splitlines())} == {'counting-1'}


def test_a_killed_run_loses_no_answer(directory, tmp_path):
  output = tmp_path / 'a.jsonl'
  with pytest.raises(KeyboardInterrupt):
    dataset.discover_dataset(directory, output, Counting(dies_after=2), progress=False)
  assert not output.exists()
  with (tmp_path / 'a.jsonl.part').open('a') as stream:
    stream.write('{"clip_id": "tr')  # the line in whose middle it was killed
  second = Counting()
  report = dataset.discover_dataset(directory, output, second, progress=False)
  assert (second.calls, report.kept, report.broken) == (2, 2, 1)
  assert '1 unreadable lines' in report.describe()
  assert len(dataset.read_attributes(output)) == 4


def test_a_clip_without_a_readable_answer_is_listed_and_is_not_one_without_faults(directory, tmp_path):
  output = tmp_path / 'a.jsonl'
  report = dataset.discover_dataset(directory, output, Counting(unreadable='You wobble.'), progress=False)
  assert 'train-0' not in dataset.read_attributes(output)
  assert (len(report.unread), report.faulty) == (1, 3)
  assert '1 clips have no readable answer' in report.describe()
  assert 'train-0: it rambles' in report.describe()
  assert json.loads((tmp_path / 'a.unread.jsonl').read_text())['reason'] == 'it rambles'
  # the truth of what nobody read is no miss of the backend
  assert 'balance' not in report.agreement

  asked = Counting(unreadable='You wobble.')
  report = dataset.discover_dataset(directory, output, asked, progress=False, again=False)
  assert (asked.calls, report.kept, [one.clip_id for one in report.unread]) == (0, 3, ['train-0'])
  assert len(dataset.pending(directory, output, asked)) == 1
  report = dataset.discover_dataset(directory, output, Counting(), progress=False)
  assert (report.kept, report.unread) == (3, [])
  assert not (tmp_path / 'a.unread.jsonl').exists()


def test_an_older_line_of_what_cannot_be_read_any_more_goes(directory, tmp_path, counting):
  output = tmp_path / 'a.jsonl'
  dataset.discover_dataset(directory, output, progress=False)
  dataset.discover_dataset(directory, output, Counting(unreadable='You wobble.'), progress=False)
  assert set(dataset.read_attributes(output)) == {'train-2', 'train-3', 'test-0'}


def test_limit_reads_the_first_clips_and_leaves_other_lines(directory, tmp_path, counting):
  output = tmp_path / 'a.jsonl'
  assert dataset.discover_dataset(directory, output, counting, limit=2, progress=False).clips == 2
  few = len(dataset.read_attributes(output))
  dataset.discover_dataset(directory, output, counting, progress=False)
  dataset.discover_dataset(directory, output, counting, limit=2, progress=False)
  assert (few, len(dataset.read_attributes(output)), counting.calls) == (few, 4, 4)
  assert few < 4


def test_missing_and_broken_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='prepare'):
    dataset.discover_dataset(tmp_path, tmp_path / 'a.jsonl')
  with pytest.raises(FileNotFoundError, match='discover'):
    dataset.read_attributes(tmp_path / 'none.jsonl')
  (tmp_path / 'bad.jsonl').write_text('[]\n{"clip_id": 3}\nno json\n')
  with pytest.raises(ValueError, match='bad.jsonl: 3 unreadable lines'):
    dataset.read_attributes(tmp_path / 'bad.jsonl')
