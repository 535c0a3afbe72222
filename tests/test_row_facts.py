"""What stands behind the rows of the small run's report."""

import dataclasses
import json
import re

from crosstrainer_jax import row_facts


def test_every_row_says_what_it_is_made_of(small_run, run):
  made = json.loads((small_run / 'report.json').read_text())['made_of']
  rows = json.loads((small_run / 'report.json').read_text())['rows']
  assert made.keys() == rows.keys()
  ours, one_view = made['CrossTrainer'], made['CrossTrainer, one view']
  assert ours['sees'].startswith('3 × 16 frames, 4 a second, 64 pixels; ')
  assert one_view['sees'] == ours['sees'].replace('3 ×', '1 ×')
  assert one_view['checkpoint'] == ours['checkpoint']
  assert re.fullmatch(r'[0-9a-f]{10}', ours['checkpoint'])
  assert ours['prompts'] == row_facts.prompts_hash(run.config.prompt.k) != row_facts.prompts_hash(9)
  assert ours['decoder'] == 'llama, 1 × 64'
  assert {(facts['text'], facts['attributes']) for facts in made.values()} == {('raw', 'lexicon')}
  assert made['video zeroed']['checkpoint'] not in ('–', ours['checkpoint'])
  assert made['random'] == {
    'sees': 'nothing of the clip', 'decoder': '–', 'prompts': '–', 'checkpoint': '–', 'text': 'raw',
    'attributes': 'lexicon',
  }  # fmt: skip
  assert made['nearest neighbour']['decoder'] == '–'
  text = (small_run / 'report.md').read_text()
  assert '**What stands behind each row**' in text


def test_what_read_the_attributes_is_told(run, tmp_path):
  config = run.config.copy_and_resolve_references()
  names = tmp_path / 'names.json'
  names.write_text(json.dumps({'method': 'by hand', 'phrases': {'a': 'b'}}))
  config.discovery.update(backend='openai', model='llama', prompt='form', canonical=str(names))
  other = dataclasses.replace(run, config=config)
  told = row_facts.of_rows(other, ['random'])['random']['attributes']
  assert re.fullmatch('openai, llama, prompt form, names [0-9a-f]{10}', told)
