"""What a model behind a server is shown, and what is made of its answers."""

import base64
import json

import cv2
import numpy as np
import pytest

from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import CUT, REFUSED, Answer, Unreadable
from crosstrainer_jax.discovery.server import Server
from crosstrainer_jax.inference import zero_shot
from crosstrainer_jax.inference.zero_shot import Eyes, Seen, ZeroShot
from crosstrainer_jax.input import prompts
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.recordings import IMPORT_FILE, identify
from crosstrainer_jax.input.source import ClipSource
from tests.discovery.chat_server import serving, text_of
from tests.overlapping_clips import write_video


def images_of(request):
  """The images of a request, as uint8[H, W, 3] in RGB."""
  parts = request['messages'][0]['content']
  urls = [part['image_url']['url'] for part in parts if part['type'] == 'image_url']
  assert all(url.startswith('data:image/jpeg;base64,') for url in urls)
  data = [np.frombuffer(base64.b64decode(url.partition(',')[2]), np.uint8) for url in urls]
  return [cv2.imdecode(one, cv2.IMREAD_COLOR)[..., ::-1] for one in data]


def echo(request):
  """Names how many images there were, then repeats the prompt's attributes."""
  text = text_of(request)
  if 'Highlight up to' in text:
    return f'{len(images_of(request))} images, knee bend'
  return f'Work on {text.split("may contain mistakes):")[1].split(".")[0].strip()}.'


@pytest.fixture
def server():
  with serving(echo) as running:
    yield running


def model(server, folder, eyes=None, retries=1, **settings):
  client = Server('vlm', server.url, first_pause=0.01, timeout=5.0, **settings)
  return ZeroShot(Asker(client, AnswerStore(folder / 'answers.sqlite'), retries), eyes)


def frame(value, size=8):
  return np.full((size, size, 3), value, np.uint8)


# --- What is shown


def test_both_prompts_are_asked_with_the_frames_in_the_place_of_the_video(server, tmp_path):
  shown = [zero_shot.jpeg(frame(value), 8) for value in (0, 255)]
  assert model(server, tmp_path).see('soccer', shown) == Seen(['2 images', 'knee bend'], 'Work on 2 images, knee bend.')
  first, second = server.requests
  for request, prompt in ((first, prompts.attribute_prompt('soccer')),
                          (second, prompts.feedback_prompt('soccer', ['2 images', 'knee bend']))):  # fmt: skip
    (message,) = request['messages']
    assert message['role'] == 'user'
    assert [part['type'] for part in message['content']] == ['image_url', 'image_url', 'text']
    assert message['content'][-1]['text'] == prompt.replace('<video>', '').strip()
    assert [round(image.mean()) for image in images_of(request)] == [0, 255]


def test_an_image_keeps_its_colours_and_shrinks_but_never_grows():
  picture = np.zeros((40, 80, 3), np.uint8)
  picture[..., 0] = 200
  url = zero_shot.jpeg(picture, 20)
  (seen,) = images_of({'messages': [{'content': [{'type': 'image_url', 'image_url': {'url': url}}]}]})
  assert seen.shape == (10, 20, 3)
  assert np.abs(seen.mean((0, 1)) - [200, 0, 0]).max() < 6
  url = zero_shot.jpeg(frame(9), 100)
  (seen,) = images_of({'messages': [{'content': [{'type': 'image_url', 'image_url': {'url': url}}]}]})
  assert seen.shape == (8, 8, 3)


@pytest.mark.parametrize(
  ('times', 'eyes', 'chosen'),
  [
    (np.arange(0, 4, 0.25), Eyes(fps=1), [0, 4, 8, 12]),
    (np.arange(0, 4, 0.25), Eyes(fps=100, frames=16), list(range(16))),
    (np.arange(0, 10, 0.25), Eyes(fps=4, frames=3), [0, 20, 39]),
    (np.arange(7, 9.1, 0.5), Eyes(fps=1), [0, 2, 4]),
    (np.array([np.nan, 1.0, 1.5, 2.0, np.nan]), Eyes(fps=2), [1, 2, 3]),
    (np.array([0.0, 3.0]), Eyes(fps=1), [0, 1]),
    (np.full(3, np.nan), Eyes(), []),
    (np.array([5.0]), Eyes(), [0]),
  ],
)
def test_frames_are_chosen_by_time(times, eyes, chosen):
  assert zero_shot.choose(times.astype(np.float32), eyes).tolist() == chosen


def test_eyes_that_cannot_be():
  with pytest.raises(ValueError, match='--frames must be above 0'):
    Eyes(frames=0)
  with pytest.raises(ValueError, match='--fps must be above 0, not -1'):
    Eyes(fps=-1)


# --- Answers


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    ('balance, knee bend', ['balance', 'knee bend']),
    ('**Key concept areas:**\n\n1. **Balance**\n2. Knee bend.', ['balance', 'knee bend']),
    ('- Balance\n- Knee bend', ['balance', 'knee bend']),
    ('<think>hm</think>None.', []),
  ],
)
def test_lists_of_attributes(text, named):
  assert zero_shot.read_attributes(Answer(text)) == named


@pytest.mark.parametrize(
  ('answer', 'reason'),
  [
    (Answer('The person in this video should try to keep the knees bent.'), 'a sentence'),
    (Answer('balance, kn', CUT), 'cut'),
    (Answer('', REFUSED), 'refused'),
    (Answer('  '), 'empty'),
  ],
)
def test_what_is_no_list(answer, reason):
  with pytest.raises(Unreadable, match=reason):
    zero_shot.read_attributes(answer)


def test_feedback_is_kept_as_far_as_it_was_written():
  assert zero_shot.read_feedback(Answer('Bend the\nknees and', CUT)) == 'Bend the knees and'
  for answer in (Answer('no', REFUSED), Answer('')):
    with pytest.raises(Unreadable):
      zero_shot.read_feedback(answer)


def test_what_cannot_be_read_is_none_with_its_reason(server, tmp_path):
  images = [zero_shot.jpeg(frame(0), 8)]
  server.replies = ['The person in the video has to bend the knees much more.'] * 2
  seen = model(server, tmp_path).see('soccer', images)
  assert seen[:2] == (None, None)
  assert 'attributes: a sentence' in seen.reason
  assert 'with the concept areas only' in server.requests[1]['messages'][-1]['content']
  server.replies = ['none', '', '']
  seen = model(server, tmp_path).see('fitness', images)
  assert seen == Seen([], None, 'feedback: an empty answer')
  assert model(server, tmp_path).see('soccer', []) == Seen(None, None, 'no frame can be seen')


# --- Clips of a dataset, and videos


def clip(number, frames=True):
  times = np.tile(np.arange(6, dtype=np.float32) / 2, (2, 1))
  times[1, 4:] = np.nan
  values = np.stack([np.stack([frame(10 * i + 100 * view) for i in range(6)]) for view in range(2)])
  kept = {'frames': values} if frames else {}
  return Clip(f'c{number}', 'd', 'soccer', 'pass', 'p', 't', ['left', 'right'], frame_times=times, **kept)


def test_clips_of_a_dataset_are_shown_by_their_frames(server, tmp_path, write_dataset):
  source = ClipSource(write_dataset(tmp_path / 'data', {'test': [clip(0), clip(1)]}))
  found = dict(model(server, tmp_path, Eyes(views=2, fps=1)).see_dataset(source, [1, 0], ['soccer', 'fitness']))
  assert found[0].attributes == ['5 images', 'knee bend']
  attributes = [request for request in server.requests if 'Highlight up to' in text_of(request)]
  assert {'doing soccer' in text_of(request) for request in attributes} == {True, False}
  # both views at 0, 1, 2 s; the second one ends before 2 s
  for request in attributes:
    assert [round(image.mean()) for image in images_of(request)] == [0, 20, 40, 100, 120]
  calls = len(server.requests)
  dict(model(server, tmp_path, Eyes(views=2, fps=1)).see_dataset(source, [1, 0], ['soccer', 'fitness']))
  assert len(server.requests) == calls == 4
  dict(model(server, tmp_path, Eyes(views=1, fps=1)).see_dataset(source, [0], ['soccer']))
  assert len(images_of(server.requests[-1])) == 3


def test_clips_without_frames_are_shown_by_their_videos(server, tmp_path, write_dataset):
  file = tmp_path / 'a.mp4'
  write_video(file, 3, fps=4)
  directory = write_dataset(tmp_path / 'data', {'test': [clip(0, frames=False)]})
  source = ClipSource(directory)
  with pytest.raises(ValueError, match='clip c0 has no frames, and no videos are known'):
    dict(model(server, tmp_path).see_dataset(source, [0], ['soccer']))
  identity = {'identities': {str(file): identify(file)}, 'recordings': {'c0': [str(file), str(file)]}}
  (directory.parent / IMPORT_FILE).write_text(json.dumps(identity))
  eyes = Eyes(fps=1, pixels=32)
  assert dict(model(server, tmp_path, eyes).see_dataset(source, [0], ['soccer']))[0].attributes[0] == '3 images'
  assert {image.shape for image in images_of(server.requests[-1])} == {(32, 32, 3)}


def test_a_video_is_assessed_window_by_window(server, tmp_path):
  file = tmp_path / 'a.mp4'
  write_video(file, 5, fps=4)
  eyes = Eyes(frames=3, fps=2, pixels=40, seconds=2)
  files, spans = zero_shot.open_videos([file], eyes)
  assert spans == [(0, 2), (2, 4), (3, 5)]
  found = dict(model(server, tmp_path, eyes, concurrency=2).see_videos(files, spans, 'soccer'))
  assert sorted(found) == [0, 1, 2]
  assert {seen.attributes[0] for seen in found.values()} == {'3 images'}
  assert {image.shape for request in server.requests for image in images_of(request)} == {(40, 40, 3)}
  short = Eyes(frames=30, fps=4, pixels=40, seconds=2)
  found = dict(model(server, tmp_path, short).see_videos(files, [(3, 3.5)], 'soccer'))
  assert found[0].attributes[0] == '2 images'


def test_the_assessment_says_what_it_is():
  assessment = zero_shot.Assessment(
    ['a.mp4'], 'soccer', 'vlm', 'at most 8 frames',
    [zero_shot.Segment(0, 2, ['balance'], 'Stand.'), zero_shot.Segment(2, 4, None, None, 'refused')],
  )  # fmt: skip
  text = assessment.describe()
  for words in (
    'improve    balance',
    'feedback   Stand.',
    'no answer  refused',
    'by vlm, zero-shot',
    '1 of 2 segments',
  ):
    assert words in text
  assert json.loads(assessment.to_json())['segments'][1]['reason'] == 'refused'


def test_what_is_not_shown_is_counted(tmp_path):
  write_video(tmp_path / 'a.mp4', seconds=12, fps=4)
  paths = [tmp_path / 'a.mp4'] * 2
  eyes = zero_shot.Eyes(frames=4, fps=1.0, views=1, seconds=10.0)
  tally = zero_shot.ZeroShot(None, eyes).tally(paths, [(0, 10), (10, 12)])
  assert (tally.seconds, tally.frames, tally.shown, tally.hidden) == (12, 24, 6, 12)
  assert str(tally) == '6 of 24 frames of 12 s are shown, 18 are dropped, 12 of them in views that are not shown'
  assert tally.remedy == 'raise --frames, shorten --window or --stride, or give more --views'
  # Windows that overlap show a moment once, and what lies between others is not shown.
  both = zero_shot.Eyes(frames=10, views=2)
  overlapping = zero_shot.ZeroShot(None, both).tally(paths, [(0, 8), (4, 12)])
  assert (overlapping.frames, overlapping.dropped) == (24, 0)
  apart = zero_shot.ZeroShot(None, both).tally(paths, [(0, 4), (8, 12)])
  assert (apart.shown, apart.dropped) == (16, 8)
  clip = zero_shot.Tally()
  clip.add([np.arange(0, 3, 0.25), np.full(3, np.nan)], eyes)
  assert str(clip) == '3 of 3 frames of 3 s are shown, none is dropped'
