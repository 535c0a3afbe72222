"""Decides whether a mentioned concept is praised or criticised, from the words around it.

Each stretch of speech (`clauses.py`) is judged by itself, and then passes on what its neighbours leave open: a list
takes over the judgement of its head ("good balance, timing and knee bend"), a bare subject waits for it ("your hands:
way too low"). The words are in `cues.toml`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from crosstrainer_jax.discovery import rules
from crosstrainer_jax.discovery.clauses import Stretch
from crosstrainer_jax.discovery.phrases import Match, PhraseTable

Kind = Literal['name', 'good', 'bad', 'hint', 'part', 'vague']
# A mention is dropped if its stretch holds a judged one of a higher rank: "the hands come late" is about timing.
_RANK = {'name': 4, 'good': 4, 'bad': 4, 'hint': 3, 'part': 2, 'vague': 1}
_NEGATION_REACH = 5

_FILLERS = rules.word_set('fillers')
_FINITE = rules.word_set('finite')
_LOCATIONS = rules.word_set('locations')
_COPULAS = frozenset(
  ['is', 'are', 'was', 'were', 'looks', 'looked', 'gets', 'got', 'feels', 'seems', 'dies', 'becomes']
)
_IMPERATIVES = rules.word_set('imperatives')
_DETERMINERS = rules.word_set('determiners')
_OF_LOCATIONS = rules.word_set('of_locations')
_PRONOUNS = rules.word_set('pronouns')


class Mention:
  """A concept in a stretch, as a phrase of some `Kind`."""

  def __init__(self, concept: str, kind: Kind, match: Match[tuple[str, Kind]]):
    self.concept = concept
    self.kind = kind
    self.match = match


@dataclasses.dataclass
class Verdict:
  """A judged mention: +1 praised, -1 criticised; a vague one holds only if its clause has no other."""

  concept: str
  sign: int
  vague: bool = False


@dataclasses.dataclass
class _Reading:
  """What one stretch says: its verdicts, its overall tone, and the mentions that it leaves open."""

  tone: int = 0
  advice: bool = False
  fragment: bool = True
  verdicts: list[Verdict] = dataclasses.field(default_factory=list)
  open: list[str] = dataclasses.field(default_factory=list)


@functools.cache
def _cue_tables() -> tuple[PhraseTable[str], PhraseTable[str], PhraseTable[str], PhraseTable[str]]:
  """Tables of strong cues, weak cues, negators and lessening words."""
  cues = rules.load('cues.toml')

  def table(kinds: Iterable[str]) -> PhraseTable[str]:
    return PhraseTable(((pattern, kind) for kind in kinds for pattern in cues[kind]['patterns']), cues['words'])

  return (
    table(['praise', 'blame', 'advice', 'good', 'bad']),
    table(['weak_advice', 'weak_good', 'weak_bad']),
    table(['negators']),
    table(['lessening']),
  )


class Judge:
  """Reads the stretches of one commentary in order, and collects verdicts."""

  def __init__(self) -> None:
    self._verdicts: list[Verdict] = []
    self._clause: list[Verdict] = []  # since the last contrast
    self._open: list[str] = []
    self._last: list[str] = []
    self._before = _Reading()
    self._before_tokens: Sequence[str] = ()

  def add(self, verdict: Verdict) -> None:
    """Adds a verdict on the stretch that was read last."""
    self._clause.append(verdict)

  def verdicts(self) -> list[Verdict]:
    """Everything that was judged so far, in order."""
    self._close_clause()
    return self._verdicts

  def _close_clause(self) -> None:
    clear = [verdict for verdict in self._clause if not verdict.vague]
    self._verdicts += clear or self._clause
    self._clause = []

  def read(self, stretch: Stretch, mentions: list[Mention], first: bool) -> int:
    """Judges `mentions` of the next `stretch` (`first` of its sentence); returns its tone: +1, -1, or 0 for none."""
    before = self._before
    if first:
      before = _Reading()
      self._before_tokens = ()
    if stretch.contrast:
      self._close_clause()
    if self._skipped(stretch, mentions, before):
      return 0
    reading = self._reading(stretch, mentions, before)
    if not mentions and reading.tone:
      if self._open:
        reading.verdicts = [Verdict(concept, reading.tone) for concept in self._open]
      elif stretch.contrast and not first and reading.tone < 0 and stretch.tokens[0] in _PRONOUNS:
        reading.verdicts = [Verdict(concept, -1) for concept in self._last]
      self._open = []
    elif mentions:
      carried = self._open if not first else []
      if reading.tone and reading.verdicts and carried and before.fragment:
        reading.verdicts = [Verdict(concept, reading.tone) for concept in carried] + reading.verdicts
        carried = []
      self._open = (carried + reading.open) if not stretch.circumstance else carried
    if mentions or reading.tone or reading.advice or first:
      self._before, self._before_tokens = reading, stretch.tokens
    if reading.verdicts:
      self._last = [verdict.concept for verdict in reading.verdicts]
      self._clause += reading.verdicts
    return reading.tone

  def _skipped(self, stretch: Stretch, mentions: list[Mention], before: _Reading) -> bool:
    """Whether the stretch only adds, to what was judged, what it is good for or how to cure it ("so keep ...")."""
    if not mentions or not (before.verdicts or before.open or before.advice):
      return False
    cure = before.tone < 0 and stretch.tokens[0] == 'so' and self._imperative(stretch, before)
    return stretch.purpose or cure or (before.advice and 'will' in stretch.tokens[:4])

  def _reading(self, stretch: Stretch, mentions: list[Mention], before: _Reading) -> _Reading:
    tokens = stretch.tokens
    strong, weak, negators, lessening = _cue_tables()
    reading = _Reading(fragment=_FINITE.isdisjoint(tokens))
    negations = [n for n in negators.find(tokens) if n.end >= len(tokens) or tokens[n.end] not in ('only', 'just')]
    mentions = _named_by_signs(mentions, tokens)
    taken = [set(m.match.positions) for m in mentions]
    cues = [
      c for c in strong.find(tokens) if not any(t.issuperset(c.positions) for t in taken) and not _idle(c, tokens)
    ]
    steering = [c for c in cues if c.value in ('praise', 'blame', 'advice')]
    imperative = self._imperative(stretch, before)
    inherits = (
      before.advice and not stretch.contrast and not stretch.circumstance and self._inherits(reading, tokens, cues)
    )
    reading.advice = imperative or inherits or stretch.condition or any(c.value == 'advice' for c in steering)
    if imperative or inherits or stretch.condition or stretch.replaced:
      steering.append(Match((0,), 'advice'))

    def judge(mention: Mention) -> int:
      if stretch.exception:
        return 1 if before.tone < 0 else -1
      if mention.kind in ('good', 'bad', 'hint'):
        lessened = lessening.find(tokens) if mention.kind == 'good' else []
        return _sign_of_statement(mention, steering, cues, negations + lessened, mentions)
      return _sign_of_name(mention, steering, cues, negations, lambda: weak.find(tokens))

    judged = [(mention, judge(mention)) for mention in mentions if not _is_place(mention, mentions, tokens)]
    if stretch.circumstance:
      judged = [(m, sign) for m, sign in judged if m.kind in ('bad', 'hint') or (m.kind != 'good' and sign)]
    rank = max((_RANK[m.kind] for m, sign in judged if sign), default=0)
    for mention, sign in judged:
      if sign and _RANK[mention.kind] == rank:
        reading.verdicts.append(Verdict(mention.concept, sign, mention.kind == 'vague'))
      elif not sign and not rank and mention.kind != 'vague':
        if before.tone and not stretch.contrast and not stretch.circumstance and reading.fragment and not cues:
          reading.verdicts.append(Verdict(mention.concept, before.tone))
        else:
          reading.open.append(mention.concept)
    reading.tone = _tone(reading.verdicts, steering, cues, negations)
    return reading

  def _imperative(self, stretch: Stretch, before: _Reading) -> bool:
    tokens = stretch.tokens
    i = 0
    while i < len(tokens) - 1 and tokens[i] in _FILLERS:
      i += 1
    if tokens[i] not in _IMPERATIVES or not _FINITE.isdisjoint(tokens[i + 1 : i + 3]):
      return tokens[i : i + 2] == ['do', 'not']
    # "You stay low and keep your head up" tells; "stay low and keep your head up" asks.
    told = not stretch.contrast and not before.advice and self._before_tokens[:1] in (['you'], ['they'], ['we'])
    return not (told and before.tone >= 0)

  def _inherits(self, reading: _Reading, tokens: Sequence[str], cues: list[Match[str]]) -> bool:
    # "keep your knees bent, your head up" asks for both; "keep your knees bent, the head drops" does not.
    spoken_of = tokens[0] in ('the', 'you', 'he', 'she', 'it', 'they', 'i', 'there', 'that', 'this')
    return reading.fragment and not spoken_of and not any(c.value in ('praise', 'good') for c in cues)


def _named_by_signs(mentions: list[Mention], tokens: Sequence[str]) -> list[Mention]:
  """Gives a sign to the name that it is said of: "the timing is rushed" is about timing, not about speed."""
  kept: list[Mention] = []
  for mention in mentions:
    name = kept[-1] if kept else None
    if (
      name is not None
      and (name.kind == 'name' or name.concept == 'follow-through')
      and mention.kind in ('good', 'bad', 'hint')
      and mention.concept != 'timing'
      and 0 < mention.match.start - name.match.end <= 2
      and tokens[name.match.end] in _COPULAS
    ):
      kept[-1] = Mention(name.concept, mention.kind, mention.match)
    else:
      kept.append(mention)
  return kept


def _idle(cue: Match[str], tokens: Sequence[str]) -> bool:
  """Whether a cue word is used in a sense that judges nothing: "too" for also, "well" as in "well outside"."""
  following = tokens[cue.end] if cue.end < len(tokens) else ''
  if tokens[cue.end - 1] == 'right':
    return following in _LOCATIONS or following in ('next', 'there', 'hand', 'foot', 'side', 'leg', 'knee')
  return len(cue.positions) == 1 and (
    (tokens[cue.start] == 'too' and not following) or (tokens[cue.start] == 'well' and following in _LOCATIONS)
  )


def _negated(match: Match, negations: list[Match[str]], mentions: Iterable[Mention] = ()) -> bool:
  """Whether an odd number of negators stands shortly before the match or in its gaps, and no mention between."""
  fence = max((m.match.end for m in mentions if m.match.end <= match.start), default=0)
  first = max(match.start - _NEGATION_REACH, fence)
  count = 0
  for negation in negations:
    p = negation.start
    if (first <= p and negation.end <= match.start) or (match.start < p < match.end and p not in match.positions):
      count += 1
  return count % 2 == 1


def _nearest(match: Match, cues: list[Match[str]]) -> Match[str]:
  """The nearest cue; of equally near ones the cue that comes before."""

  def distance(cue: Match[str]) -> tuple[int, bool]:
    if cue.end <= match.start:
      return match.start - cue.end, False
    return max(cue.start - match.end, 0), True

  return min(cues, key=distance)


def _sign_of_statement(
  mention: Mention,
  steering: list[Match[str]],
  cues: list[Match[str]],
  negations: list[Match[str]],
  mentions: list[Mention],
) -> int:
  """A mention that judges by itself ("wobbles", "stays level")."""
  if any(cue.value == 'advice' for cue in steering) and _nearest(mention.match, steering).value == 'advice':
    return -1
  negated = _negated(mention.match, negations, mentions)
  if mention.kind != 'good':
    if mention.kind == 'hint' and any(c.value in ('good', 'praise') for c in cues) and not negated:
      return 0
    return 1 if negated else -1
  if negated or any(cue.value == 'blame' for cue in steering):
    return -1
  spoilt = any(c.value == 'bad' and 0 <= c.start - mention.match.end <= 3 and not _negated(c, negations) for c in cues)
  return -1 if spoilt else 1


def _sign_of_name(
  mention: Mention,
  steering: list[Match[str]],
  cues: list[Match[str]],
  negations: list[Match[str]],
  find_weak: Callable[[], list[Match[str]]],
) -> int:
  """A mention that only names a concept: the cues decide, 0 if there are none."""
  match = mention.match
  if steering:
    cue = _nearest(match, steering)
    return 1 if cue.value == 'praise' and not _negated(cue, negations) else -1
  if cues:
    cue = _nearest(match, cues)
    return (1 if cue.value == 'good' else -1) * (-1 if _negated(cue, negations) else 1)
  if _negated(match, negations):
    return -1
  weak = [c for c in find_weak() if c.start not in match.positions]
  if not weak:
    return 0
  cue = _nearest(match, weak)
  return (1 if cue.value == 'weak_good' else -1) * (-1 if _negated(cue, negations) else 1)


def _is_place(mention: Mention, mentions: list[Mention], tokens: Sequence[str]) -> bool:
  """Whether the mention only tells where or when: "hands below the knees", "on the follow-through your head drops"."""
  if len(mentions) < 2 or mention.kind in ('bad', 'hint'):
    return False
  i = mention.match.start - 1
  while i >= 0 and tokens[i] in _DETERMINERS:
    i -= 1
  if i < 0:
    return False
  placed = tokens[i] in _LOCATIONS or (tokens[i] == 'of' and i > 0 and tokens[i - 1] in _OF_LOCATIONS)
  return placed and tokens[i - 1 : i] not in (['work'], ['working'], ['focus'], ['concentrate'], ['keyed'])


def _tone(
  verdicts: list[Verdict], steering: list[Match[str]], cues: list[Match[str]], negations: list[Match[str]]
) -> int:
  if verdicts:
    return verdicts[-1].sign
  if steering:
    return 1 if steering[-1].value == 'praise' else -1
  if cues:
    return (1 if cues[-1].value == 'good' else -1) * (-1 if _negated(cues[-1], negations) else 1)
  return 0
