"""What is called how in the workdir of a run, and in its table."""

STAGE1, STAGE2 = 'stage1', 'stage2'
# Files in the folder `probe`.
PROBE, PROBE_WITH_ATTRIBUTES = 'probe.npz', 'with_attributes.npz'
# The rows of the table that are trained.
CROSSTRAINER, END_TO_END, ZEROED = 'CrossTrainer', 'end to end without attributes', 'video zeroed'
TRAINED = (CROSSTRAINER, END_TO_END, ZEROED)


def row_folder(row: str) -> str:
  """Where what a row trains lies, under the workdir."""
  return f'rows/{row.replace(" ", "_").replace(",", "")}'


def folder_of(row: str, stage: str = STAGE2) -> str:
  """Where a trained row keeps its parameters, under the workdir."""
  return stage if row == CROSSTRAINER else f'{row_folder(row)}/{stage}'
