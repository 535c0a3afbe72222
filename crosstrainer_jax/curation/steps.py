"""The steps of a curation in their order, made from settings that can be sent to other machines.

| step | decides | [P] paper, [O] ours |
|---|---|---|
| videos | what lies in the folder, and what is dead | [O] |
| sentences | which captions to trust, and where sentences end | transcripts [P], rules and punctuation [O] |
| actionable | whether a learner could act on a sentence, by a language model | [P], rules in its place [O] |
| window | which seconds belong to it | [O] |
| demonstrated | whether the frames show it, and how, by a vision-language model | [P], rules in its place [O] |
| duplicates | which of several equal clips is kept | [O] |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from crosstrainer_jax import backends
from crosstrainer_jax.curation import duplicates, gates, look, scan, sentences
from crosstrainer_jax.curation.work import Step
from crosstrainer_jax.datasets.youtube.transcript import Limits
from crosstrainer_jax.discovery.asking import Asker

NAMES = (
  scan.STEP, sentences.NAME, gates.ACTIONABLE, look.NAME, gates.DEMONSTRATED, duplicates.NAME,
)  # fmt: skip
RULES = 'rules'
BACKENDS = (RULES, *backends.MODELS)


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides a curation beside the folder's content.

  Attributes:
    root: folder of the videos.
    punctuation, actionable, demonstrated: backend of each, one of `BACKENDS`.
    text, vision: the language models of the first two, and of the last.
    pixels: of the frames that the last is shown, at most.
  """

  root: str
  limits: Limits = Limits()
  windows: look.Windows = look.Windows()
  punctuation: str = RULES
  actionable: str = RULES
  demonstrated: str = RULES
  text: backends.ModelSettings = backends.ModelSettings()
  vision: backends.ModelSettings = backends.ModelSettings()
  pixels: int = 336

  def __post_init__(self) -> None:
    for name in ('punctuation', 'actionable', 'demonstrated'):
      if getattr(self, name) not in BACKENDS:
        raise ValueError(f'--{name} {getattr(self, name)}: known are {", ".join(BACKENDS)}')

  def describe(self) -> str:
    """One line."""
    w = self.windows
    return (
      f'{self.root}: punctuation by {self.punctuation}, actionable by {self.actionable}, demonstrated by '
      f'{self.demonstrated}; windows from {w.before:g} s before to {w.after:g} s after a sentence, '
      f'at most {w.longest:g} s'
    )


def steps(settings: Settings) -> list[Step]:
  """The steps between `videos` and `duplicates`, each ready to work; models are opened here.

  Raises:
    ValueError: a model that cannot be asked; the message says why.
  """
  readers = {settings.punctuation, settings.actionable} - {RULES}
  text = {name: backends.open_asker(name, settings.text) for name in readers}
  return [
    sentences.Sentences(settings.root, settings.limits, text.get(settings.punctuation)),
    gates.Actionable(text.get(settings.actionable)),
    look.Look(settings.root, settings.windows),
    gates.Demonstrated(settings.root, _seeing(settings), settings.pixels),
  ]


def _seeing(settings: Settings) -> Asker | None:
  if settings.demonstrated == RULES:
    return None
  return backends.open_seeing_asker(settings.demonstrated, settings.vision)


def askers(made: Sequence[Step]) -> list[Asker]:
  """The models behind the steps, each once."""
  found = [asker for step in made if (asker := getattr(step, 'asker', None)) is not None]
  return list({id(asker): asker for asker in found}.values())
