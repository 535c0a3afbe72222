"""The report: golden text, round trip, and rows that were not run."""

import io
import math
import re
import textwrap

import pytest

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import ROWS, Report, cell, read_report
from crosstrainer_jax.evaluation.table import Footnotes

NAN = math.nan


@pytest.fixture
def report():
  return Report(
    title='cross_sport',
    setting='ZS-3',
    held_out='soccer',
    seed=1,
    command='python -m crosstrainer_jax.eval runs/cross_sport',
    hardware='2 CPU cores',
    n_clips=6,
    n_takes=3,
    n_headline=4,
    columns=['attribute F1', 'BLEU-4'],
    rows={
      'a new row': {
        'headline/attribute F1': Interval(12.34, 1.0, 23.4, 4, 3),
        'all/attribute F1': Interval(1.0, 0.0, 2.0, 6, 3),
      },
      'CrossTrainer': {
        'headline/attribute F1': Interval(50.06, 40.0, 60.04, 4, 3),
        'headline/BLEU-4': Interval(30, 20, 40, 4, 3),
        'headline/attribute recall': Interval(70, NAN, NAN, 4, 1),
      },
      'always none': {
        'headline/attribute F1': Interval(0, 0, 0, 4, 3),
        'headline/BLEU-4': Interval(NAN, NAN, NAN, 0, 0, 'writes no feedback'),
      },
    },
    differences={'CrossTrainer − always none': {'headline/attribute F1': Interval(50.06, -0.04, 60, 4, 3)}},
    not_run={'video zeroed': 'no time | asked'},
    variants=['BLEU-4: sacrebleu'],
    notes=['a note'],
  )


def test_markdown_golden(report):
  text = report.to_markdown()
  golden = textwrap.dedent("""\
    # cross_sport

    ZS-3, held out: soccer · 6 clips, 4 with a fault, in 3 takes · seed 1

    Scores are 0–100, [95 % percentile bootstrap by take, 1000 resamples, seed 0].

    Command: python -m crosstrainer_jax.eval runs/cross_sport

    Hardware: 2 CPU cores

    **Clips with a fault**

    | | attribute F1 | BLEU-4 |
    |---|---:|---:|
    | always none | 0.0 [0.0, 0.0] | –¹ |
    | random | –² | –² |
    | majority | –² | –² |
    | nearest neighbour | –² | –² |
    | linear classifier on v | –² | –² |
    | fine-tuned retrieval | –² | –² |
    | attribute retrieval | –² | –² |
    | zero-shot VLM | –² | –² |
    | video zeroed | –³ | –³ |
    | end to end without attributes | –² | –² |
    | CrossTrainer | 50.1 [40.0, 60.0] | 30.0 [20.0, 40.0] |
    | CrossTrainer with true attributes | –² | –² |
    | level from v and attributes | –² | –² |
    | sport-blind ceiling | –² | –² |
    | a new row | 12.3 [1.0, 23.4] | –⁴ |

    **Clips with a fault: differences, paired by take**

    | | attribute F1 | BLEU-4 |
    |---|---:|---:|
    | CrossTrainer − always none | +50.1 [0.0, 60.0] | –⁴ |
    """)
  assert text.startswith(golden)
  end = textwrap.dedent("""\
    ¹ writes no feedback

    ² not run

    ³ not run: no time | asked

    ⁴ one of the rows lacks this score

    ⁵ no interval: too few takes

    - BLEU-4: sacrebleu
    - a note
    """)
  assert text.endswith(end)
  assert '| CrossTrainer | 70.0⁵ |' in text  # recall is among the details


def test_terminal_golden_without_a_terminal(report):
  stream = io.StringIO()
  report.print(stream)
  lines = [line.rstrip() for line in stream.getvalue().splitlines()]
  golden = textwrap.dedent("""\
    ZS-3, held out: soccer · 6 clips, 4 with a fault, in 3 takes · seed 1
    Scores are 0–100, [95 % percentile bootstrap by take, 1000 resamples, seed 0].
    Command: python -m crosstrainer_jax.eval runs/cross_sport
    Hardware: 2 CPU cores
    Clips with a fault
                             attribute F1         BLEU-4
    ────────────────────────────────────────────────────
    always none                0.0 [0, 0]             –¹
    random                             –²             –²
    majority                           –²             –²
    nearest neighbour                  –²             –²
    linear classifier on v             –²             –²
    fine-tuned retrieval               –²             –²
    attribute retrieval                –²             –²
    zero-shot VLM                      –²             –²
    video zeroed                       –³             –³
    end to end without                 –²             –²
     attributes
    CrossTrainer            50.1 [40, 60]  30.0 [20, 40]
    CrossTrainer with true             –²             –²
     attributes
    level from v and                   –²             –²
     attributes
    sport-blind ceiling                –²             –²
    a new row                12.3 [1, 23]             –⁴
    """).splitlines()
  assert lines[: len(golden)] == golden
  assert '\x1b' not in stream.getvalue()
  assert max(map(len, lines)) <= 120


def test_names_are_printed_as_they_are(report):
  report.rows = {'[bold]x[/] [2]': {'headline/attribute F1': Interval(1, 0, 2, 9, 9, 'a [red]note[/red]')}}
  report.command = 'python -m crosstrainer_jax.eval ' + ' '.join(f'--config.key{i}=[{i}]' for i in range(12))
  stream = io.StringIO()
  report.print(stream)
  assert '[bold]x[/] [2]' in stream.getvalue()
  assert 'a [red]note[/red]' in stream.getvalue()
  assert f'Command: {report.command}\n' in stream.getvalue()


def test_a_terminal_gets_bold_titles_within_its_own_width(report, monkeypatch):
  monkeypatch.setenv('COLUMNS', '60')
  monkeypatch.setenv('TERM', 'xterm-256color')
  monkeypatch.delenv('NO_COLOR', raising=False)

  class Terminal(io.StringIO):
    def isatty(self):
      return True

  stream = Terminal()
  report.print(stream)
  text = stream.getvalue()
  assert '\x1b[1mClips with a fault' in text
  rows = [re.sub(r'\x1b\[[0-9;]*m', '', line) for line in text.splitlines() if '50.1 [40, 60]' in line]
  assert rows
  assert all(len(row) <= 60 for row in rows)


def test_wide_tables_break_into_blocks_of_120_columns(report):
  report.columns = [f'metric {i:02d} masked' for i in range(12)]
  report.rows = {
    name: {f'{s}/{c}': Interval(88.88, 77, 100, 9, 9) for s in ('headline', 'all') for c in report.columns}
    for name in ROWS
  }
  stream = io.StringIO()
  report.print(stream)
  text = stream.getvalue()
  assert max(len(line.rstrip()) for line in text.splitlines()) <= 120
  assert text.count('88.9 [77, 100]') == 2 * 12 * len(ROWS)  # no cell is cut
  assert 'Clips with a fault, continued' in text


def test_json_round_trip_writes_undefined_as_null(report, tmp_path):
  paths = report.write(tmp_path / 'run')
  assert [path.name for path in paths] == ['report.md', 'report.json']
  assert 'NaN' not in paths[1].read_text()
  again = read_report(paths[1])
  assert again.rows['a new row'] == report.rows['a new row']
  assert again.facts() == report.facts()
  assert math.isnan(again.rows['always none']['headline/BLEU-4'].value)
  assert again.to_markdown() == report.to_markdown() == paths[0].read_text()


def test_no_rows_at_all(report):
  report.rows, report.differences, report.not_run = {}, {}, {}
  assert report.to_markdown().count('not run') == 1
  report.print(io.StringIO())


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"rows": {}, "differences": {}}', '{"rows": {"a": {"b": {}}}}'])
def test_other_files_are_refused(tmp_path, text):
  path = tmp_path / 'report.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'report\.json is not a report of this version'):
    read_report(path)
  with pytest.raises(FileNotFoundError, match='does not exist'):
    read_report(tmp_path / 'other.json')


@pytest.mark.parametrize(
  ('interval', 'sign', 'expected'),
  [
    (Interval(46.25, 41.04, 51.35, 9, 9), '', '46.2 [41.0, 51.4]'),
    (Interval(-0.01, -0.01, 0.01, 9, 9), '+', '+0.0 [0.0, 0.0]'),
    (Interval(-3, -4, -2, 9, 9, 'so'), '+', '-3.0 [-4.0, -2.0]¹'),
    (Interval(NAN, NAN, NAN, 0, 0, 'so'), '', '–¹'),
    (Interval(3, NAN, NAN, 9, 1, ''), '', '3.0¹'),
    (None, '', '–¹'),
  ],
)
def test_cell(interval, sign, expected):
  assert cell(interval, Footnotes(), 1, sign) == expected
