import collections
import io
import json

from crosstrainer_jax.curation import truth
from crosstrainer_jax.curation.manifest import Totals
from crosstrainer_jax.curation.report import Report
from crosstrainer_jax.curation.work import Counts
from tests.curation.test_truth import judged, known


def test_a_page_says_what_was_kept_and_why_not():
  counts = Counts(2, 8, 6, 1, collections.Counter({('segment', 'not actionable'): 2}))
  report = Report(
    {'actionable': counts}, ['by rules'], Totals(2, 0.5, 1, {'judo': 6}), truth.of([judged('a')], {'a': known()})
  )
  page = report.to_markdown()
  assert '| actionable | 2 | 8 | 6 | 75.0 % |' in page
  assert '| actionable: not actionable | 2 | segment |' in page
  assert 'library: 6 clips, 0.50 hours, of 2 videos by 1 channels' in page
  assert '| demonstrated | 100.0' in page
  content = json.loads(report.to_json())
  assert content['truth']['demonstrated']['precision']['value'] == 100.0
  assert content['steps']['actionable']['kept'] == 6
  assert report.unanswered == 1
  screen = io.StringIO()
  report.print(screen)
  assert '75.0 %' in screen.getvalue()
