"""The verb, from two datasets and ratings to its report."""

import json

import pytest
from absl import flags

from crosstrainer_jax import retrieve, settings
from crosstrainer_jax.retrieval import rows
from tests.retrieved import small_config


def test_learners_and_a_library_become_a_report(retrieved, capsys):
  made = json.loads((retrieved / 'run' / 'retrieval.json').read_text())
  assert list(made['rows']) == list(rows.ROWS)
  assert made['rows']['random']['R@5']['n_clips'] == 2
  assert '2 learners’ clips' in made['facts'][0]
  assert f'{rows.RERANKED} − {rows.BLIND}' in made['differences']
  triples = [json.loads(line) for line in (retrieved / 'run' / 'triples.jsonl').read_text().splitlines()]
  assert {triple['kind'] for triple in triples} == {'relevant', 'hard negative', 'easy negative'}
  assert {tuple(triple['shared']) for triple in triples if triple['relevant']} == {('knee bend',), ('balance',)}
  assert {triple['clip_id'] for triple in triples} <= {f'learners{n}' for n in range(9)}
  # What is trained is read back.
  again = retrieve.run(small_config(retrieved), retrieved / 'run', retrieved)
  assert 'updates in' not in capsys.readouterr().out
  assert json.loads(again.to_json())['rows'] == made['rows']
  assert rows.RERANKED in (retrieved / 'run' / 'retrieval.md').read_text()


def test_means_over_runs_are_printed(retrieved, monkeypatch, capsys):
  given = type('Given', (), {'runs': [str(retrieved / 'run')] * 2})
  monkeypatch.setattr(flags, 'FLAGS', given)
  retrieve.main(['retrieve'])
  assert '2 seeds: mean (lowest–highest)' in capsys.readouterr().out


def test_what_cannot_be_is_told(retrieved, tmp_path):
  config = settings.load_config('configs/retrieval.py:dataset=learners,library=lessons')
  with pytest.raises(ValueError, match='name a file'):
    retrieve.run(config, tmp_path / 'run', retrieved)
  config = config.copy_and_resolve_references().unlock()
  config.retrieve.rows = ('all',)
  with pytest.raises(ValueError, match='no row'):
    retrieve.run(config.lock(), tmp_path / 'other', retrieved)


def test_a_plan_says_what_would_be_done(tmp_path):
  said = retrieve.plan(settings.load_config('configs/retrieval.py'), tmp_path / 'none')
  assert 'clips of howto for learners of skillsim' in said
