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


def test_a_broken_info_file_loses_no_video_and_unsure_sentences_stay_in_the_account(howto, tmp_path):
  import json
  import shutil

  for file in howto.iterdir():
    if '[v00]' in file.name and file.suffix != '.json' and not file.name.endswith('.json3'):
      shutil.copy(file, tmp_path / file.name)
    elif '[v00]' in file.name and file.name.endswith('.json3'):
      content = json.loads(file.read_text())
      for event in content['events']:
        for segment in event['segs'] if event['tStartMs'] < 4000 else ():
          segment['acAsrConf'] = 51
      (tmp_path / file.name).write_text(json.dumps(content))
  stem = next(tmp_path.glob('*.mp4')).name.removesuffix('.mp4')
  (tmp_path / f'{stem}.info.json').write_text('{"id": ')
  (video,) = scan.Folder(str(tmp_path), sport='soccer').videos()
  found = sentences.Sentences(str(tmp_path), transcript.Limits()).apply(video)
  assert not found.dropped
  first, *others = found.segments
  assert (first.reason, first.narration[0].isupper(), first.spoken[1] > 0) == (transcript.UNSURE, True, True)
  assert not any(segment.dropped for segment in others)
