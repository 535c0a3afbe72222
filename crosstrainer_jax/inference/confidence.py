"""When the coach should rather say "not sure": a threshold on an attribute's probability, set on validation clips."""

from collections.abc import Collection, Mapping, Sequence

from crosstrainer_jax.input.prompts import EMPTY

NEVER = 1.01  # above every probability: nothing is ever sure


def choose_threshold(
  probabilities: Sequence[Mapping[str, float]], truths: Sequence[Collection[str]], target_precision: float
) -> tuple[float, float]:
  """The lowest threshold at which the attributes that are named are right at least `target_precision` of the time.

  Args:
    probabilities: for each validation clip, attribute → probability.
    truths: for each clip, the attributes that are right.

  Returns:
    The threshold, and the precision there; (NEVER, the best precision found) when no threshold reaches the target.
  """
  answers = sorted(
    (
      (p, name in truth)
      for row, truth in zip(probabilities, truths, strict=True)
      for name, p in row.items()
      if name != EMPTY
    ),
    reverse=True,
  )
  best, threshold, right = 0.0, NEVER, 0
  precision_there = 0.0
  for count, (p, correct) in enumerate(answers, start=1):
    right += correct
    if count < len(answers) and answers[count][0] == p:
      continue  # equal probabilities stand or fall together
    precision = right / count
    best = max(best, precision)
    if precision >= target_precision:
      threshold, precision_there = p, precision
  return (threshold, precision_there) if threshold != NEVER else (NEVER, best)
