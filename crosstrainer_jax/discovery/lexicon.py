"""The offline discoverer: a lexicon of skill concepts, and rules of syntax that tell praise from criticism.

`lexicon.toml` lists how coaches speak of each concept; `polarity.py` judges each mention. What is criticised without
being in the lexicon is kept in its own words if it stands in a clear frame ("the shot selection needs work"), since the
vocabulary of the paper is open (section 3.3). English only: other languages yield empty lists.
"""

import functools
import re

from crosstrainer_jax.discovery import clauses, rules
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.phrases import Match, PhraseTable
from crosstrainer_jax.discovery.polarity import Judge, Kind, Mention, Verdict

_KINDS: tuple[Kind, ...] = ('name', 'good', 'bad', 'hint', 'part', 'vague')

_PHRASE = r'(?P<phrase>[a-z]+(?: [a-z]+){0,2})'
_THE = r'(?:the|your|his|her|their|my) '
_IS = (
  r'(?:is|are|was|were|looks|look|looked|seems|feels) (?:\w+ly |quite |very |rather |too |a bit |a little |a touch )?'
)
_FAULTY = (
  r'(?:poor|weak|off|bad|sloppy|lacking|inconsistent|missing|wrong|awkward|messy|terrible|flat|loose|rough|'
  r'not (?:good|great|right|there|enough))'
)
_WORK = r'(?:\w+ )?(?:work|improvement|attention|improving|fixing|to improve|to be better)'
_UNKNOWN = [
  re.compile(pattern)
  for pattern in (
    rf'\b{_THE}{_PHRASE} {_IS}{_FAULTY}\b',
    rf'\b{_THE}{_PHRASE} needs? {_WORK}\b',
    rf'\b{_THE}{_PHRASE} (?:could|should) be (?:better|improved|cleaner|sharper|tighter)\b',
    rf'\bwork(?:ing)? on (?:{_THE})?{_PHRASE}$',
    rf'\b(?:poor|sloppy|lack of|lacks|lacking) (?:{_THE})?{_PHRASE}$',
  )
]
_FUNCTION_WORDS = rules.word_set('function_words')
_UNNAMED = rules.word_set('unnamed')


# Stands in for a concept where a pattern is only there to keep its words from being read as one.
_IGNORED = ''


@functools.cache
def _concepts() -> PhraseTable[tuple[str, Kind]]:
  lexicon = rules.load('lexicon.toml')
  patterns: list[tuple[str, tuple[str, Kind]]] = [
    (pattern, (concept, kind))
    for concept, phrasings in lexicon['concepts'].items()
    for kind in _KINDS
    for pattern in phrasings.get(kind, ())
  ]
  patterns += [(pattern, (_IGNORED, 'name')) for pattern in lexicon['ignore']['patterns']]
  return PhraseTable(patterns, lexicon['words'])


class LexiconDiscoverer:
  """The `lexicon` backend; stateless, and the same for every sport.

  Args:
    phrases: the backend `lexicon-phrases`: the expert's own words for each concept in the place of its canonical name,
      as a language model would leave them.
  """

  def __init__(self, phrases: bool = False) -> None:
    self._phrases = phrases
    self.fingerprint = f'lexicon-{"phrases-" if phrases else ""}{rules.fingerprint()}'

  def discover(self, commentary: str, sport: str = '') -> Attributes:
    """Attributes of a comment; a concept that is both praised and criticised is incorrect."""
    judge = Judge()
    for sentence in clauses.sentences(commentary or ''):
      for i, stretch in enumerate(clauses.stretches(sentence)):
        mentions = [self._mention(match, stretch.tokens) for match in _find(stretch.tokens)]
        if judge.read(stretch, mentions, first=i == 0) <= 0 and not mentions:
          for phrase in _unknown_phrases(stretch.tokens):
            judge.add(Verdict(phrase, -1))
    verdicts = judge.verdicts()
    incorrect = dict.fromkeys(verdict.concept for verdict in verdicts if verdict.sign < 0)
    correct = dict.fromkeys(verdict.concept for verdict in verdicts if verdict.sign > 0)
    return Attributes([concept for concept in correct if concept not in incorrect], list(incorrect))

  def _mention(self, match: Match[tuple[str, Kind]], tokens: list[str]) -> Mention:
    concept, kind = match.value
    return Mention(' '.join(tokens[i] for i in match.positions) if self._phrases else concept, kind, match)


def name_concept(phrase: str) -> str | None:
  """Canonical concept of a short free phrase ("Foot placement": "foot positioning"), None if the lexicon has none."""
  tokens = [token for sentence in clauses.sentences(phrase) for token in sentence]
  matches = _find(tokens)
  if not matches:
    return None
  order: dict[Kind, int] = {'name': 0, 'good': 1, 'bad': 1, 'hint': 2, 'part': 3, 'vague': 4}
  return min(matches, key=lambda match: (order[match.value[1]], -len(match.positions), match.start)).value[0]


def concept_names() -> list[str]:
  """Every canonical name of the lexicon."""
  return list(rules.load('lexicon.toml')['concepts'])


def _find(tokens: list[str]) -> list[Match[tuple[str, Kind]]]:
  return [match for match in _concepts().find(tokens) if match.value[0] != _IGNORED]


def _names_an_aspect(words: list[str]) -> bool:
  return words[-1] not in _UNNAMED and _FUNCTION_WORDS.isdisjoint(words)


def _unknown_phrases(tokens: list[str]) -> list[str]:
  text = ' '.join(tokens)
  phrases = []
  for pattern in _UNKNOWN:
    found = pattern.search(text)
    if found and _names_an_aspect(found['phrase'].split()):
      phrases.append(found['phrase'])
  return phrases
