"""All scores of a row: scopes, missing metrics, comparison."""

import dataclasses
import math

import pytest

from crosstrainer_jax.evaluation.scores import (
  Reading,
  columns,
  compare,
  headline_mask,
  notes,
  score,
  significance,
  significance_lines,
  variants,
)

FAULTS = ('balance', 'knee bend', 'timing')
READING = Reading(
  extract=lambda text: [fault for fault in FAULTS if fault in text],
  name_fault=lambda phrase: phrase if phrase in FAULTS else None,
  nouns=['player'],
)
HOW = {'reading': READING, 'resamples': 50}


def test_headline_is_on_clips_with_a_fault(references, perfect):
  scores = score(perfect, references, **HOW)
  assert scores['headline/attribute F1'].n_clips == 4
  assert scores['all/attribute F1'].n_clips == 6
  assert {f'{scope}/{column}' for scope in ('headline', 'all') for column in columns()} <= scores.keys()
  for name in (
    'attribute F1',
    'attribute F1 macro',
    'feedback F1',
    'IoU@1.0',
    'IoU-lex@0.7',
    'ROUGE-L',
    'level accuracy',
  ):
    assert scores[f'headline/{name}'].value == pytest.approx(100), name


def test_always_none_scores_on_all_clips_and_nothing_in_the_headline(references):
  scores = score([r.answer([]) for r in references], references, **HOW)
  assert scores['headline/attribute F1'].value == 0
  assert scores['headline/IoU@1.0'].value == 0
  assert scores['all/IoU@1.0'].value == pytest.approx(100 / 3)


def test_discovered_attributes_make_the_headline_where_truth_is_unknown(reference):
  clips = [reference(0, faults=None, attributes=['a']), reference(1, faults=None), reference(2, attributes=['a'])]
  assert headline_mask(clips).tolist() == [True, False, False]


def test_omitted_faults_are_no_gift_to_always_none(reference):
  clips = [reference(0, faults=['balance'], attributes=['balance']), reference(2, faults=['timing'], attributes=[])]
  scores = score([r.answer([]) for r in clips], clips, **HOW)
  assert (scores['headline/IoU@1.0'].value, scores['headline/IoU@1.0'].n_clips) == (0, 1)
  assert scores['headline/attribute recall'].n_clips == 2
  assert scores['all/IoU@1.0'].value == 50


def test_what_a_row_lacks_says_why(references):
  scores = score([r.answer([]) for r in references], references, **HOW)
  for name, why in {
    'feedback F1': 'writes no feedback',
    'BLEU-4': 'writes no feedback',
    'ROUGE-L masked': 'writes no feedback',
    'level accuracy': 'rates no level',
    'attribute precision': 'undefined: nothing to count',
  }.items():
    assert math.isnan(scores[f'headline/{name}'].value)
    assert scores[f'headline/{name}'].note == why
  scores = score([r.answer(level=0) for r in references], references, **HOW)
  assert scores['headline/IoU@1.0'].note == 'says neither attributes nor feedback'


def test_what_the_clips_lack_says_why(reference):
  clips = [reference(i, faults=None, attributes=['timing'], commentary=' ', level=-1) for i in range(3)]
  scores = score([r.answer(['timing'], 'timing', 1) for r in clips], clips, **HOW)
  unknown = 'the true faults of these clips are unknown'
  assert scores['headline/attribute F1'].note == scores['all/feedback F1 macro'].note == unknown
  assert scores['all/METEOR-es'].note == 'these clips have no commentary'
  assert scores['all/level accuracy'].note == 'the levels of these clips are unknown'
  assert scores['headline/IoU@1.0'].value == 100


def test_no_clip_with_a_fault(reference):
  clips = [reference(i) for i in range(3)]
  scores = score([r.answer([], 'x', 0) for r in clips], clips, **HOW)
  assert scores['headline/attribute F1'].note == 'no such clips'
  assert scores['all/IoU@1.0'].value == 100


def test_end_to_end_gets_its_attributes_from_its_feedback(references):
  scores = score([r.answer(feedback=r.commentary) for r in references], references, **HOW)
  assert scores['headline/attribute F1'].value == 100
  assert 'read off its feedback' in scores['headline/attribute F1'].note
  assert scores['headline/feedback F1'].note == ''


def test_an_unreadable_answer_counts_as_wrong(references, perfect):
  broken = [references[0].answer(None, None, None), *perfect[1:]]
  scores = score(broken, references, **HOW)
  assert scores['headline/IoU@1.0'].value == pytest.approx(75)
  assert scores['headline/level accuracy'].value == pytest.approx(75)
  assert scores['headline/attribute recall'].value == pytest.approx(100 * 5 / 6)
  assert scores['headline/feedback F1'].value < 100
  assert scores['headline/BLEU-4'].value < 100


def test_what_could_not_be_read_is_counted_in_a_note(references, perfect):
  broken = [references[0].answer(None, None, 1), *perfect[1:]]
  scores = score(broken, references, **HOW)
  note = '1 of 6 answers could not be read and count as wrong'
  assert scores['all/IoU@1.0'].note == scores['all/BLEU-4'].note == scores['headline/feedback F1'].note == note
  assert scores['all/level accuracy'].note == ''


def test_matching_and_empty_lists_are_choices_that_the_report_names(references):
  nothing = [r.answer([]) for r in references]
  skip = dataclasses.replace(READING, matching='greedy', empty='skip')
  scores = score(nothing, references, skip, resamples=20)
  assert (scores['all/IoU@1.0'].value, scores['all/IoU@1.0'].n_clips) == (0, 4)
  text = '\n'.join(variants(skip))
  assert 'greedy' in text
  assert 'two empty lists are left out' in text
  with pytest.raises(ValueError, match='matching is one of hungarian, greedy'):
    dataclasses.replace(READING, matching='best')


def test_accuracy_of_each_sport_when_there_are_several(reference):
  clips = [reference(i, sport=sport) for i, sport in enumerate(['soccer', 'climbing', 'climbing', 'soccer'])]
  answers = [r.answer([], level=0 if r.sport == 'soccer' else 1) for r in clips]
  scores = score(answers, clips, **HOW)
  assert scores['all/level accuracy, soccer'].value == 100
  assert scores['all/level accuracy, climbing'].value == 0
  assert scores['all/level accuracy, climbing'].n_clips == 2
  compared = compare(answers, [r.answer([]) for r in clips], clips, **HOW)
  assert not [name for name in compared if 'level' in name]


def test_compare_is_the_difference_of_two_rows(references, perfect):
  nothing = [r.answer([], '', 0) for r in references]
  one, two = score(perfect, references, **HOW), score(nothing, references, **HOW)
  differences = compare(perfect, nothing, references, **HOW)
  for name, difference in differences.items():
    if not math.isnan(difference.value):
      assert difference.value == pytest.approx(one[name].value - two[name].value)
  assert differences['headline/attribute F1'].value == 100


def test_rows_are_tested_against_each_rival(references, perfect):
  rivals = {'nothing': [r.answer([], '', 0) for r in references], 'levels': [r.answer(level=0) for r in references]}
  tested = significance(perfect, rivals, references, **HOW)
  assert set(tested['headline/level accuracy']) == set(rivals)
  result = tested['headline/attribute F1']['nothing']
  # of the eight swaps of three takes, only none and all are as extreme
  assert (result.n_takes, result.rows) == (3, 1)
  assert result.permutation == result.adjusted == pytest.approx(2 / 8)
  assert tested['all/level accuracy']['levels'].rows == 2
  lines = significance_lines(tested, 'ours', ['attribute F1', 'level accuracy', 'no such score'])
  assert lines[0].startswith('ours and nothing, clips with a fault: p = attribute F1 0.250, level accuracy ')
  assert 'attribute F1' not in lines[1]
  assert all('Holm over 2 rows' in line for line in lines)


def test_order_of_predictions_does_not_matter(references, perfect):
  assert str(score(perfect[::-1], references, **HOW)) == str(score(perfect, references, **HOW))


def test_no_clips_is_an_error():
  with pytest.raises(ValueError, match='no clips to score'):
    score([], [], **HOW)


def test_notes_count_what_the_clips_lack(reference):
  clips = [
    reference(0, faults=None, attributes=['a'], commentary=' '),
    reference(1, faults=['timing'], attributes=[], level=2),
    reference(2, faults=['timing'], attributes=['timing'], level=2),
  ]
  counts, majority = notes(clips)
  assert counts == (
    'Of 3 clips: 1 without known faults, 1 without commentary, 1 with a fault and no discovered attribute.'
  )
  assert 'soccer 66.7 (early expert, 3 clips)' in majority


def test_variants_name_every_stand_in():
  text = '\n'.join(variants())
  assert 'not a BERT-score' in text
  assert 'METEOR-es' in text
