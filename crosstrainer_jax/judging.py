"""Human judgement of a run: the sheet that judges get, and what came back (`eval --human-sheet`, `eval --judged`)."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from crosstrainer_jax import human_sheet, run_layout
from crosstrainer_jax.baselines.fine_tuned_retrieval import NAME as FINE_TUNED
from crosstrainer_jax.evaluation import human
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.pictures import Picture
from crosstrainer_jax.training.telemetry import say

# Rows that a sheet compares, beside the expert's own comment.
ROWS = (run_layout.CROSSTRAINER, run_layout.END_TO_END, FINE_TUNED, 'nearest neighbour')


def write_sheet(
  workdir: Path,
  pictures: Mapping[str, Picture],
  count: int,
  seed: int,
  rows: Sequence[str] | None = None,
  candidates: Mapping[str, str] = types.MappingProxyType({}),
) -> Path:
  """Writes a sheet for human judges into `human/` of the workdir, from the predictions there; returns its folder.

  Args:
    workdir: of a run, or one of its folders under `wild/`.
    pictures: id of a clip → what the judges see of it.
    count: of clips.
    rows: that are compared; None for `ROWS`.
    candidates: name of a system → file of the clips that it retrieved, where these are to be judged.

  Raises:
    FileNotFoundError, ValueError: no such predictions, or nothing to judge.
  """
  references = read_references(workdir / 'predictions' / 'references.jsonl')
  if candidates:
    kind = human_sheet.RETRIEVAL
    found = {name: human_sheet.read_candidates(Path(path), pictures) for name, path in candidates.items()}
    cases = human_sheet.retrieval_cases(pictures, references, found, count, seed)
  else:
    kind = human_sheet.FEEDBACK
    files = {name: workdir / 'predictions' / f'{name.replace(" ", "_")}.jsonl' for name in rows or ROWS}
    unknown = [name for name, path in files.items() if not path.is_file()]
    if rows and unknown:
      there = sorted(path.stem for path in (workdir / 'predictions').glob('*.jsonl') if path.stem != 'references')
      raise ValueError(f'--human-rows: {workdir} has no row {unknown[0]!r}; it has {", ".join(there)}')
    chosen = {name: read_predictions(path) for name, path in files.items() if name not in unknown}
    silent = [name for name, row in chosen.items() if all(p.feedback is None for p in row)]
    if silent:
      raise ValueError(f'--human-rows: {silent[0]!r} writes no feedback: there is nothing to judge')
    cases = human_sheet.feedback_cases(pictures, references, chosen, count, seed)
  folder = workdir / 'human' / kind
  key = human_sheet.write_sheet(folder, cases, kind, seed)
  if len(cases) < count:
    say(f'{len(cases)} clips instead of {count}: there are no more to judge')
  say(f'written: {folder}/sheet.html and form.csv for the judges ({len(key.items)} items); key.json stays with you')
  say(f'then: python -m crosstrainer_jax.eval --judged FORM.csv,… --key {folder}/key.json')
  return folder


def judge(forms: Sequence[str], key_path: str | None) -> human.Judged:
  """Reads what judges filled in, prints it, and writes judged.md and judged.json beside the key."""
  if not key_path:
    raise ValueError('--judged needs the key of the sheet: --key runs/…/human/feedback/key.json')
  key = human.read_key(key_path)
  judged = human.judge(key, *human.read_answers(forms, key))
  folder = Path(key_path).parent
  write_atomically(folder / 'judged.md', judged.to_markdown())
  write_atomically(folder / 'judged.json', judged.to_json())
  judged.print()
  say(f'written: {folder}/judged.md, {folder}/judged.json')
  return judged
