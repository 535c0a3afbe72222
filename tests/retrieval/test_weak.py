import collections
import json

from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.retrieval import weak
from crosstrainer_jax.retrieval.weak import Spoken

LEARNERS = [
  Spoken('a', 'judo', frozenset({'balance'})),
  Spoken('b', 'judo', frozenset({'timing', 'balance'})),
  Spoken('c', 'golf', frozenset({'grip'})),
]
LIBRARY = [
  Spoken('x', 'judo', frozenset({'balance'})),
  Spoken('y', 'judo', frozenset({'timing', 'pace'})),
  Spoken('z', 'golf', frozenset({'balance'})),
  Spoken('w', 'judo', frozenset()),
]


def test_relevant_is_the_same_sport_and_a_shared_attribute():
  assert weak.relevant_to(LEARNERS, LIBRARY) == [[0], [0, 1], []]


def test_triples_have_some_of_each_kind(tmp_path):
  found = list(weak.triples(LEARNERS, LIBRARY, each=(1, 5, 1)))
  assert collections.Counter((t.clip_id, t.kind) for t in found) == {
    ('a', weak.RELEVANT): 1, ('a', weak.HARD): 2, ('a', weak.EASY): 1,
    ('b', weak.RELEVANT): 1, ('b', weak.HARD): 1, ('b', weak.EASY): 1,
  }  # fmt: skip
  assert all(t.relevant == (t.kind == weak.RELEVANT) for t in found)
  assert found == list(weak.triples(LEARNERS, LIBRARY, each=(1, 5, 1)))
  weak.write(tmp_path / 't.jsonl', found)
  lines = [json.loads(line) for line in (tmp_path / 't.jsonl').read_text().splitlines()]
  assert len(lines) == len(found) == 7
  assert lines[0] == {
    'clip_id': 'a', 'candidate': 'x', 'kind': 'relevant', 'shared': ['balance'], 'relevant': True,
  }  # fmt: skip


def test_of_a_learner_counts_what_is_criticised_of_a_candidate_all():
  found = Attributes(['balance'], ['knee bend'])
  assert weak.of_learner('a', 'soccer', found) == weak.Spoken('a', 'soccer', frozenset({'knee bend'}))
  assert weak.of_candidate('x', 'soccer', found).attributes == {'balance', 'knee bend'}
