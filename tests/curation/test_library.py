from crosstrainer_jax.curation.library import Library
from crosstrainer_jax.curation.manifest import FILE, read


def test_kept_clips_are_takes_by_video(curated, howto):
  library = Library(str(howto), str(curated / FILE))
  takes = list(library.takes(lambda loss: None))
  kept = [row for row in read(curated) if row['kept']]
  assert sum(len(take.comments) for take in takes) == len(kept) > 6
  take = next(take for take in takes if take.name == 'v02')
  assert take.participant.startswith('channel-')
  assert (take.split in ('train', 'test'), take.views) == (True, ('main',))
  comment = take.comments[0]
  assert comment.extra['execution'] == 'correct'
  assert comment.end > comment.start >= 0
  assert len(library.content()['digest']) == 16
