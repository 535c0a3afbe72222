from crosstrainer_jax.curation import videos
from crosstrainer_jax.curation.videos import Video


def test_a_line_holds_everything(video):
  video.segments[0].window, video.segments[0].hashes = (0.5, 4.0), ['00ff00ff00ff00ff', '']
  video.segments[1].drop('actionable', 'not actionable', 'an advert')
  assert Video.from_json(video.to_json()) == video
  assert list(videos.read(iter([video.to_json() + '\n', '\n']))) == [video]


def test_what_is_dropped_is_no_more_alive(video):
  video.segments[1].drop('actionable', 'not actionable')
  assert video.alive() == video.segments[:1]
  assert video.clip_id(video.segments[1]) == 'abc/0001'
  video.drop('sentences', 'no captions')
  assert video.alive() == []
