"""The table's rows: all there, on the same clips, and each what its name says."""

import dataclasses
import json
import types

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crosstrainer_jax import measure, run_layout
from crosstrainer_jax.baselines import RETRIEVAL
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from crosstrainer_jax.evaluation.report import ROWS, read_report


@pytest.fixture(scope='module')
def predictions(small_run):
  files = (small_run / 'predictions').glob('*.jsonl')
  return {path.stem: read_predictions(path) for path in files if path.stem != 'references'}


def test_every_row_is_scored(small_run):
  report = json.loads((small_run / 'report.json').read_text())
  assert set(ROWS) <= set(report['rows']) | set(report['not_run'])
  assert set(report['not_run']) == {'zero-shot VLM'}
  assert 'CrossTrainer, one view' in report['rows']


def test_rows_answer_for_the_same_clips(small_run, predictions):
  clips = [reference.clip_id for reference in read_references(small_run / 'predictions' / 'references.jsonl')]
  assert len(clips) == 4
  assert all([p.clip_id for p in row] == clips for row in predictions.values())


def test_without_video_every_clip_of_a_sport_gets_the_same_answer(predictions):
  row = predictions['video_zeroed']
  assert len({(tuple(p.attributes), p.feedback) for p in row}) == 1


def test_true_attributes_are_the_discovered_ones(small_run, predictions):
  references = read_references(small_run / 'predictions' / 'references.jsonl')
  row = predictions['CrossTrainer_with_true_attributes']
  assert [p.attributes for p in row] == [r.attributes for r in references]


def test_one_stage_names_no_attributes_itself(predictions):
  assert all(p.attributes is None and p.feedback is not None for p in predictions['end_to_end_without_attributes'])


def test_an_untrained_row_is_absent_with_its_reason(run, tmp_path):
  untrained = dataclasses.replace(run, workdir=tmp_path)
  untrained.params = lambda folder: run.initial
  rows = measure.predict_rows(untrained, [measure.Reference.from_clip(run.clips[i]) for i in run.split.test])
  assert set(rows.absent) == {run_layout.END_TO_END, run_layout.ZEROED, *RETRIEVAL}
  assert 'config.eval.rows' in rows.absent['attribute retrieval']
  assert 'config.eval.rows' in rows.absent[run_layout.ZEROED]


def test_retrieval_answers_from_the_training_clips(run, predictions):
  training = [run.clips[i] for i in run.split.train]
  said = {(clip.commentary, tuple(clip.incorrect)) for clip in training}
  assert all((p.feedback, tuple(p.attributes)) in said for p in predictions['fine-tuned_retrieval'])
  named = {name for clip in training for name in clip.incorrect}
  assert all(set(p.attributes) <= named for p in predictions['attribute_retrieval'])


def test_rows_from_elsewhere_have_names_of_their_own(run):
  references = [measure.Reference.from_clip(run.clips[i]) for i in run.split.test]
  rows = measure.Rows({'CrossTrainer': []}, {'video zeroed': 'why'})
  answers = [reference.answer(attributes=[]) for reference in references]
  measure.add_external(rows, [measure.External('other', answers, '')])
  assert rows.predictions['other'] == answers
  for taken in ('other', 'CrossTrainer', 'video zeroed'):
    with pytest.raises(ValueError, match=f'there is a row {taken!r} already'):
      measure.add_external(rows, [measure.External(taken, answers, '')])


def test_the_ceiling_rates_levels(small_run, predictions):
  row = json.loads((small_run / 'report.json').read_text())['rows']['sport-blind ceiling']
  assert np.isfinite(row['all/level accuracy']['value'])
  assert all(prediction.level in range(4) for prediction in predictions['sport-blind_ceiling'])


def test_the_ceiling_is_above_the_floor(small_run):
  rows = json.loads((small_run / 'report.json').read_text())['rows']
  value = {name: rows[name]['headline/attribute F1']['value'] for name in ('always none', 'sport-blind ceiling')}
  assert value['always none'] == 0
  assert value['sport-blind ceiling'] > 20


def test_tensorboard_shows_curves_by_task_scores_and_clips(small_run):
  events = EventAccumulator(str(small_run / 'tensorboard')).Reload()
  scalars = set(events.Tags()['scalars'])
  assert {'stage1/loss', 'stage2/feedback/loss', 'stage2/attributes/token_accuracy', 'stage2/learning_rate'} <= scalars
  assert 'stage1/attributes/loss' not in scalars
  report = json.loads((small_run / 'report.json').read_text())
  score = report['rows']['CrossTrainer']['headline/attribute F1']['value']
  assert events.Scalars('evaluation/headline/attribute_F1')[-1].value == pytest.approx(score, abs=1e-3)
  assert len(events.Images('clips')) == 4
  text = events.Tensors('clips/text_summary')[0].tensor_proto.string_val[0].decode()
  assert 'true faults:' in text
  assert 'CrossTrainer’s feedback:' in text


class Judge:
  """A language model that finds every second text good, and cannot always be read."""

  model = types.SimpleNamespace(name='a judge')

  def __init__(self):
    self.asked = []

  def complete(self, prompt):
    self.asked.append(prompt)
    return ("{'score': 5}", 'no idea')[len(self.asked) % 2]


def test_a_judge_rates_the_feedback_of_every_row_that_has_some(small_run, run):
  folder = small_run / 'predictions'
  references = read_references(folder / 'references.jsonl')
  rows = measure.Rows({n: read_predictions(folder / f'{n}.jsonl') for n in ('random', 'CrossTrainer', 'always_none')})
  report = read_report(small_run / 'report.json')
  report.rows['always_none'] = {}
  judge = Judge()
  measure._judge(rows, references, judge, report, run.config)
  assert report.columns[-1] == 'LLM-Acc'
  assert report.rows['always_none'] == {}
  found = report.rows['random']['all/LLM-Acc']
  assert 1 <= found.value <= 5
  assert 'could not be read' in found.note
  assert 'count as 1' in found.note
  assert any(references[0].commentary in prompt for prompt in judge.asked)
  assert 'a judge' in report.variants[-1]
