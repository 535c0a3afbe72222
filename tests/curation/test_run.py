import json
import shutil

import pytest

from crosstrainer_jax import backends
from crosstrainer_jax.curation import scan, steps
from crosstrainer_jax.curation.run import RECORDS, Run, root_of
from crosstrainer_jax.datasets.howto import folder as howto_folder
from crosstrainer_jax.input.record import Clip
from tests.discovery.chat_server import serving


def run_of(place, root, **settings):
  return Run(
    place,
    scan.Folder(str(root), table=str(root / howto_folder.TABLE_FILE)),
    steps.Settings(str(root), windows=steps.look.Windows(longest=4.0), **settings),
    test_fraction=0.3,
  )


def test_a_folder_becomes_a_library(curated, howto, tmp_path):
  place = tmp_path / 'library'
  shutil.copytree(curated, place)
  own = run_of(place, howto)
  report = own.make()
  assert report.totals.clips > 6
  scores = report.truth.scores()
  assert scores['duplicates'][1].value == 100.0
  assert scores['library'][0].value > 80
  own.write_records('lessons', mu1=0.0, mu2=4.0, fps=4.0, size=64, workers=1)
  import tensorflow_datasets as tfds

  reader = tfds.builder_from_directory(next((place / RECORDS / 'lessons').glob('*.*.*')))
  clips = [Clip.from_example(e) for split in reader.info.splits for e in reader.as_data_source(split)]
  assert len(clips) == report.totals.clips
  assert clips[0].frames.shape == (1, 16, 64, 64, 3)
  assert json.loads(clips[0].extra)['execution'] in ('correct', 'incorrect')
  assert clips[0].participant.startswith(('channel', 'a fan'))


def test_a_folder_is_of_one_root(curated, howto, tmp_path):
  assert root_of(curated) == str(howto)
  with pytest.raises(ValueError, match='is the curation of'):
    Run(curated, scan.Folder(str(tmp_path), sport='judo'), steps.Settings(str(tmp_path))).make()
  with pytest.raises(FileNotFoundError, match='no curation here'):
    root_of(tmp_path)


def test_models_are_estimated_asked_once_and_never_again(howto, tmp_path):
  def behaviour(request):
    content = request['messages'][-1]['content']
    if isinstance(content, list):
      return 'Demonstrated: yes\nExecution: correct\nReason: it is shown'
    return f'Actionable: {"no" if "link" in content else "yes"}\nReason: so it is'

  with serving(behaviour) as server:
    model = backends.ModelSettings(model='fake', base_url=server.url, answers=str(tmp_path / 'answers'), concurrency=2)
    settings = {'actionable': 'openai', 'demonstrated': 'openai', 'text': model, 'vision': model, 'pixels': 64}
    said = run_of(tmp_path / 'a', howto, **settings).estimate(price_in=1.0)
    assert 'actionable, behind rules' in said
    assert 'calls to make' in said
    assert not server.requests
    own = run_of(tmp_path / 'a', howto, **settings)
    report = own.make()
    asked = len(server.requests)
    assert asked == own.askers[0].called + (own.askers[1].called if len(own.askers) > 1 else 0) > 20
    assert report.totals.clips > 15
    assert any('questions asked now' in fact for fact in report.facts)
    # another folder, the same questions: every answer is kept
    again = run_of(tmp_path / 'b', howto, **settings).make()
    assert len(server.requests) == asked
    assert again.totals == report.totals


def test_rules_have_nothing_to_estimate(howto, tmp_path):
  with pytest.raises(ValueError, match='ask nobody'):
    run_of(tmp_path / 'a', howto).estimate()
