"""The assess verb."""

import json

import pytest

from crosstrainer_jax import assess
from crosstrainer_jax.inference import coach
from tests.discovery.chat_server import Reply, serving, text_of
from tests.input import hub_tokenizers
from tests.models import hub_directories
from tests.overlapping_clips import write_video


def test_help_needs_no_model(capsys):
  with pytest.raises(SystemExit) as stop:
    assess.main(['--help'])
  assert stop.value.code == 0
  assert '--sport' in capsys.readouterr().out


def test_errors_are_one_line(small_run, tmp_path):
  with pytest.raises(SystemExit, match='error: .*missing.mp4'):
    assess.main([str(tmp_path / 'missing.mp4'), '--checkpoint', str(small_run)])
  with pytest.raises(SystemExit, match='error: .*config.json'):
    assess.main(['x.mp4', '--checkpoint', str(tmp_path)])


def test_text_or_json(monkeypatch, capsys, tmp_path):
  segment = coach.Segment(0, 4, {'balance': 0.8}, {}, 'Stay tall.', ('novice', 0.6))
  result = coach.Assessment(['a.mp4'], 'soccer', [segment], ['a warning'], {'decode': 0.1})

  class Stub:
    def assess(self, *arguments):
      print('said on the way')
      return result

  monkeypatch.setattr(coach, 'load', lambda *_: Stub())
  assess.main(['a.mp4', '--checkpoint', str(tmp_path), '--json'])
  assert json.loads(capsys.readouterr().out)['segments'][0]['feedback'] == 'Stay tall.'
  assess.main(['a.mp4', '--checkpoint', str(tmp_path)])
  text = capsys.readouterr().out
  assert 'balance (80%)' in text
  assert 'a warning' in text


def test_an_interruption_is_one_line(monkeypatch, capsys, tmp_path):
  class Stub:
    def assess(self, *arguments):
      arguments[-1](1, 3)
      raise KeyboardInterrupt

  monkeypatch.setattr(coach, 'load', lambda *_: Stub())
  with pytest.raises(SystemExit) as stop:
    assess.main(['a.mp4', '--checkpoint', str(tmp_path)])
  assert stop.value.code == 130
  shown = capsys.readouterr()
  assert not shown.out
  assert shown.err == '\ninterrupted; nothing was assessed\n'


def test_a_library_adds_the_clips_to_watch(retrieved, tmp_path, capsys):
  library = ['--library', str(retrieved / 'run'), '--clips', '2']
  with serving(behaviour) as server:
    by_a_server(server, tmp_path, *library)
    text = capsys.readouterr().out
    assert text.count('  watch      0.0–2.0 s of https://v.test/') == 4
    assert 'shows the mistake: “' in text
    by_a_server(server, tmp_path, *library, '--json')
    for segment in json.loads(capsys.readouterr().out)['segments']:
      assert all(clip.keys() >= {'url', 'start', 'shared', 'similarity', 'relevance'} for clip in segment['watch'])
      assert len(segment['watch']) == 2
    by_a_server(server, tmp_path, '--library', str(retrieved / 'run'), '--clips', '1', '--sport', 'rugby')
    assert "no clips of 'rugby' but of judo, soccer" in capsys.readouterr().out
    asked = len(server.requests)
    with pytest.raises(SystemExit, match='error: .*no library to search here'):
      by_a_server(server, tmp_path, '--library', str(tmp_path), '--sport', 'golf')
    assert len(server.requests) == asked  # it is looked at before anything is paid for
  with pytest.raises(SystemExit):
    assess.main(['a.mp4', '--clips', '0'])
  assert '0 is no number of clips' in capsys.readouterr().err


def test_a_library_that_fails_costs_no_assessment(capsys):
  class Broken:
    def advise(self, *_):
      raise ValueError('the features are gone')

  segment = coach.Segment(0, 4, {'balance': 0.8}, {}, 'Stay tall.', None)
  result = coach.Assessment(['a.mp4'], 'soccer', [segment], [], {})
  assess._add_clips(Broken(), result, 3)
  assert result.warnings == ['no clips to watch: the features are gone']


def test_a_run_of_retrieval_is_no_checkpoint(retrieved, tmp_path):
  write_video(tmp_path / 'a.mp4', seconds=2, fps=4)
  with pytest.raises(SystemExit, match='error: .*name it with --library'):
    assess.main([str(tmp_path / 'a.mp4'), '--checkpoint', str(retrieved / 'run')])


def test_a_trained_run_and_a_library_make_one_report(small_run, retrieved, tmp_path, capsys):
  write_video(tmp_path / 'a.mp4', seconds=4, fps=4)
  command = [str(tmp_path / 'a.mp4'), '--checkpoint', str(small_run), '--sport', 'soccer', '--json']
  assess.main([*command, '--library', str(retrieved / 'run')])
  found = json.loads(capsys.readouterr().out)
  for segment in found['segments']:
    nothing_wrong = segment['sure'] and not segment['attributes']
    assert len(segment['watch']) == (0 if nothing_wrong else 3)


def behaviour(request):
  return 'balance, timing' if 'Highlight' in text_of(request) else 'Stand still.'


def by_a_server(server, folder, *more):
  video = folder / 'a.mp4'
  if not video.exists():
    write_video(video, seconds=4, fps=4)
  answers = str(folder / 'a.sqlite')
  command = [str(video), '--backend', 'openai', '--base_url', server.url, '--model', 'vlm', '--answers', answers]
  assess.main([*command, '--window', '2', '--sport', 'soccer', *more])


def test_a_model_behind_a_server_assesses_without_a_checkpoint(tmp_path, capsys):
  with serving(behaviour) as server:
    by_a_server(server, tmp_path, '--estimate', '--price_in', '1')
    assert '4 calls to make; 0 answers are kept already' in capsys.readouterr().out
    assert not server.requests
    by_a_server(server, tmp_path)
    shown = capsys.readouterr()
    assert shown.out.count('improve    balance, timing') == shown.out.count('feedback   Stand still.') == 2
    assert 'at most 8 frames a view at 1 a second, 1 view(s), 448 pixels' in shown.err
    assert len(server.requests) == 4
    by_a_server(server, tmp_path, '--json')
    assert json.loads(capsys.readouterr().out)['segments'][1]['attributes'] == ['balance', 'timing']
    assert len(server.requests) == 4


def test_errors_of_a_server_are_one_line(tmp_path):
  with serving(lambda _: Reply(401, {'error': {'message': 'who are you?'}})) as server:
    with pytest.raises(SystemExit, match='error: .*refuses the key of OPENAI_API_KEY .*who are you'):
      by_a_server(server, tmp_path)
    with pytest.raises(SystemExit, match='error: --frames must be above 0'):
      by_a_server(server, tmp_path, '--frames', '0')
    with pytest.raises(SystemExit, match='error: .*none.mp4'):
      assess.main([str(tmp_path / 'none.mp4'), '--backend', 'openai', '--base_url', server.url, '--model', 'm'])


@pytest.fixture(scope='module')
def qwen(tmp_path_factory):
  return hub_directories.write_seeing_model(tmp_path_factory.mktemp('qwen'))


def test_a_model_on_this_machine_that_sees_assesses_too(qwen, tmp_path, capsys):
  video = tmp_path / 'a.mp4'
  write_video(video, seconds=2, fps=4)
  answers = str(tmp_path / 'a.sqlite')
  command = [str(video), '--backend', 'local', '--model', str(qwen), '--answers', answers, '--max_tokens', '4']
  assess.main([*command, '--window', '2', '--frames', '2', '--json', '--retries', '0'])
  shown = capsys.readouterr()
  (segment,) = json.loads(shown.out)['segments']
  # Random weights write no words; what they wrote was read, or is said not to be readable.
  assert segment['attributes'] is not None or 'attributes:' in segment['reason']
  assert 'at most 2 frames a view' in shown.err


def test_a_model_on_this_machine_that_sees_nothing_is_refused(tmp_path):
  write_video(tmp_path / 'a.mp4', seconds=2, fps=4)
  directory = hub_tokenizers.write(tmp_path / 'llama', 'llama3')
  hub_directories.write_llama(directory)
  with pytest.raises(SystemExit, match='sees no images: name a directory or repository of Qwen2.5-VL'):
    assess.main([str(tmp_path / 'a.mp4'), '--backend', 'local', '--model', str(directory)])
