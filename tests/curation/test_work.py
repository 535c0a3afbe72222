import collections
import json

import pytest

from crosstrainer_jax.curation import gates, scan, work
from crosstrainer_jax.curation.videos import Segment, Video
from crosstrainer_jax.curation.work import Counts, Work


class Folder:
  """In the place of a scan."""

  def __init__(self, count):
    self.count = count

  def videos(self):
    for n in range(self.count):
      segments = [Segment(k, f'Bend your knees {n} {k}.' if k else 'Subscribe.', (0.0, 1.0)) for k in range(2)]
      yield Video(f'v{n}', 'x.mp4', {}, str(n), sport='judo', segments=segments)


class Counting(gates.Actionable):
  """The gate, which counts, and can be interrupted."""

  def __init__(self):
    super().__init__()
    self.seen, self.limit = collections.Counter(), 10**9

  def apply(self, item):
    if sum(self.seen.values()) >= self.limit:
      raise KeyboardInterrupt
    self.seen[item.id] += 1
    return super().apply(item)


@pytest.fixture
def own(tmp_path):
  made = Work(tmp_path)
  made.scan(Folder(100))
  return made


def test_a_step_counts_what_it_keeps_and_why_not(own):
  assert own.shards() == 4
  counts = own.run(1, Counting(), scan.STEP)
  assert (counts.videos, counts.segments, counts.kept) == (100, 200, 100)
  assert counts.reasons == {('segment', gates.NOT_ACTIONABLE): 100}
  assert sum(1 for _ in own.videos(1, 'actionable')) == 100


def test_what_is_finished_is_not_done_again(own, capsys):
  first = own.run(1, Counting(), scan.STEP)
  step = Counting()
  assert own.run(1, step, scan.STEP) == first
  assert not step.seen
  assert '4 of 4 shards are finished already' in capsys.readouterr().out


def test_a_killed_step_goes_on_with_the_shards_that_are_left(own):
  step = Counting()
  step.limit = 60
  with pytest.raises(KeyboardInterrupt):
    own.run(1, step, scan.STEP)
  again = Counting()
  assert own.run(1, again, scan.STEP).kept == 100
  assert 25 < len(again.seen) < 100
  assert not list(own.of(1, 'actionable').glob('*.partial'))


def test_only_shards_with_other_videos_are_done_again(own):
  own.run(1, Counting(), scan.STEP)
  changed = Folder(100)
  videos = list(changed.videos())
  videos[3].stamp = 'another'
  changed.videos = lambda: iter(videos[:99])
  own.scan(changed)
  step = Counting()
  assert own.run(1, step, scan.STEP).videos == 99
  assert 'v3' in step.seen
  assert len(step.seen) < 99


def test_another_setting_does_all_again(own):
  own.run(1, Counting(), scan.STEP)
  step = Counting()
  step.identity = lambda: {'by': 'another'}
  own.run(1, step, scan.STEP)
  assert len(step.seen) == 100


def test_what_had_no_answer_is_asked_again(own):
  step = Counting()
  plain = step.apply

  def unanswered(item):
    item = plain(item)
    item.unanswered += item.id == 'v7'
    return item

  step.apply = unanswered
  assert own.run(1, step, scan.STEP).unanswered == 1
  again = Counting()
  assert own.run(1, again, scan.STEP).unanswered == 0
  assert 'v7' in again.seen
  assert len(again.seen) < 100


def test_duplicates_are_found_over_all_shards(tmp_path):
  own = Work(tmp_path)
  hashes = [f'{n:016x}' for n in range(10**15, 10**15 + 8)]

  def videos():
    for video in Folder(60).videos():
      video.segments[1].hashes = (
        hashes if video.id in ('v5', 'v50') else [f'{hash((video.id, k)) & (2**64 - 1):016x}' for k in range(8)]
      )
      yield video

  folder = Folder(60)
  folder.videos = videos
  own.scan(folder)
  counts = own.find_duplicates(1, scan.STEP)
  assert counts.reasons == {('segment', 'nearly the same frames'): 1}
  dropped = [v.id for v in own.videos(1, 'duplicates') if v.segments[1].dropped]
  assert dropped == ['v50']
  assert own.find_duplicates(1, scan.STEP) == counts


def test_counts_come_back():
  counts = Counts(3, 5, 4, 0, collections.Counter({('video', 'gone'): 2}))
  assert Counts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_a_step_that_is_not_there_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match='curate run'):
    next(Work(tmp_path).videos(1, 'actionable'))


def test_no_more_shards_than_files_may_be_open():
  assert work._MOST_SHARDS < 1000
