from crosstrainer_jax.curation import scan, sentences
from crosstrainer_jax.datasets.howto.folder import read_truth
from crosstrainer_jax.datasets.youtube import transcript


def made(howto):
  step = sentences.Sentences(str(howto), transcript.Limits())
  return {video.id: step.apply(video) for video in scan.Folder(str(howto), table=str(howto / 'table.csv')).videos()}


def test_all_forms_of_captions_become_the_sentences_that_were_said(howto):
  truth = read_truth(howto)
  found = made(howto)
  for name in ('v00', 'v01', 'v02', 'v03', 'v04'):
    said = [segment.narration.lower().replace(',', '') for segment in found[name].segments]
    assert said == [piece['text'].lower().replace(',', '') for piece in truth[name]['pieces']], name
    for segment, piece in zip(found[name].segments, truth[name]['pieces'], strict=True):
      assert abs(segment.spoken[0] - piece['start']) < 0.3


def test_a_dead_video_says_why(howto):
  reasons = {name: video.reason for name, video in made(howto).items() if video.dropped}
  assert reasons['v05'] == transcript.OVERRUN
  assert reasons['v06'] == transcript.NO_CAPTIONS
  assert reasons['v07'] == transcript.OTHER_LANGUAGE
  assert reasons['v08'] == 'nothing but music or sounds'
  assert reasons['v12'] == 'truncated'
  assert set(reasons) == {f'v{n:02d}' for n in range(5, 13)}


def test_a_video_that_was_dropped_is_left_alone(video):
  video.drop('videos', 'gone')
  assert sentences.Sentences('/nowhere', transcript.Limits()).apply(video).reason == 'gone'


def test_drifting_captions_give_way_to_a_transcript(howto):
  assert made(howto)['v04'].spoken_by.endswith('.whisper.json')
