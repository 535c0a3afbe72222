"""Cuts commentary into words, sentences and stretches of speech that carry one judgement each."""

import dataclasses
import re
from collections.abc import Iterator

from crosstrainer_jax.discovery import rules

_CONTRACTIONS = [
  (re.compile(pattern), words)
  for pattern, words in [
    (r"\b(?:can't|cannot)\b", 'can not'),
    (r"\bwon't\b", 'will not'),
    (r"\bshan't\b", 'shall not'),
    (r"n't\b", ' not'),
    (r'\b(do|does|did|is|are|was|were|could|should|would|has|have|had)nt\b', r'\1 not'),
    (r"\blet's\b", 'let us'),
    (r"\b(it|that|there|he|she|what|here|where|who|how|everything|this)'s\b", r'\1 is'),
    (r"'s\b", ''),
    (r"'re\b", ' are'),
    (r"'m\b", ' am'),
    (r"'d\b", ' would'),
    (r"'ll\b", ' will'),
    (r"'ve\b", ' have'),
    (r'\bgotta\b', 'got to'),
    (r'\bwanna\b', 'want to'),
    (r'\bgonna\b', 'going to'),
    (r'\bneeda\b', 'need to'),
  ]
]
_APOSTROPHES = str.maketrans({'\u2019': "'", '\u2018': "'", '\u02bc': "'", '`': "'"})
_MAY_CONTRACT = re.compile(r"'|cannot|[a-z](?:nt|nna|tta|eda)\b")
# A dash between words joins a compound; one between spaces, or a long one, divides.
_TOKENS = re.compile(r'[^\W_]+|[.!?;\n\u2026]|[,:()\u2013\u2014]|(?<=\s)-+(?=\s)|--+')
_SENTENCE_ENDS = frozenset('.!?;\n\u2026')
_PAUSES = frozenset([',', ':', '(', ')', '\u2013', '\u2014'])

# Words that turn from praise to criticism or back.
CONTRASTS = rules.word_set('contrasts')
_EXCEPTIONS = frozenset([('apart', 'from'), ('aside', 'from'), ('other', 'than')])
_PURPOSES = frozenset(
  [
    ('so', 'that'),
    ('in', 'order'),
    ('for', 'better'),
    ('for', 'more'),
    ('for', 'extra'),
    ('for', 'greater'),
    ('for', 'maximum'),
  ]
)
_EFFECTS = frozenset(['will', 'would', 'lets', 'allows', 'helps', 'gives', 'makes'])
_EFFECT_VERBS = frozenset(['let', 'allow', 'help', 'give', 'make', 'mean', 'get', 'keep', 'stop', 'bring', 'add'])
_CIRCUMSTANCES = frozenset(['when', 'whenever', 'while', 'whilst', 'once', 'until'])
_PRONOUNS = frozenset(['you', 'he', 'she', 'they', 'it', 'we'])
_IMPERATIVES = rules.word_set('imperatives')
_CONCESSIONS = rules.word_set('concessions')
# "nice and slow", "only then": no new stretch.
_COMPOUNDS = frozenset(
  [(first, 'and') for first in ('nice', 'try', 'up', 'stop', 'stops', 'come')]
  + [(first, 'then') for first in ('only', 'by', 'until', 'even')]
)
_INSTEADS = frozenset([('instead', 'of'), ('rather', 'than')])
_JOINS = rules.word_set('joins')
_SUBJECTS = rules.word_set('subjects')
# These join only in front of a subject: "so your balance goes", never "so late".
_JOINS_BEFORE_SUBJECT = frozenset(['as', 'so'])
_KEEPS_WITH = rules.word_set('keeps_with')
_PURPOSE_VERBS = rules.word_set('purpose_verbs')
_TAKES_TO = rules.word_set('takes_to')


@dataclasses.dataclass
class Stretch:
  """Words that share one judgement, and how they hang on the stretch before."""

  tokens: list[str]
  contrast: bool = False  # The judgement starts afresh: a new sentence, or after "but".
  exception: bool = False  # "apart from ..."
  replaced: bool = False  # "instead of ..."
  purpose: bool = False  # "to keep ...", "so that ...": what something is good for, not what was seen.
  condition: bool = False  # "if ..."
  circumstance: bool = False  # "when ...", "as you ..."


def sentences(text: str) -> Iterator[list[str]]:
  """Lower-case words and pauses of each sentence; contractions are written out, hyphens split."""
  text = text.translate(_APOSTROPHES).lower()
  if _MAY_CONTRACT.search(text):
    for pattern, words in _CONTRACTIONS:
      text = pattern.sub(words, text)
  tokens: list[str] = []
  for token in _TOKENS.findall(text):
    if token not in _SENTENCE_ENDS:
      tokens.append(token)
    elif tokens:
      yield tokens
      tokens = []
  if tokens:
    yield tokens


def stretches(sentence: list[str]) -> list[Stretch]:
  """The stretches of one sentence; the first is marked as a contrast, since no judgement carries over to it."""
  cut = [Stretch([], contrast=True)]
  conceded = sentence[0] in _CONCESSIONS
  i = 0
  while i < len(sentence):
    current = cut[-1]
    opened, skip = _opening(sentence, i, current.tokens)
    if opened is not None and sentence[i] in _PAUSES and conceded:
      opened.contrast, conceded = True, False
    if opened is None:
      current.tokens.append(sentence[i])
    elif current.tokens:
      cut.append(opened)
    else:
      # An empty stretch ("..., but when you") passes what it knows on to the one that follows.
      for mark in ('contrast', 'exception', 'replaced', 'purpose', 'condition', 'circumstance'):
        setattr(current, mark, getattr(current, mark) or getattr(opened, mark))
    i += skip
  return cut if cut[-1].tokens else cut[:-1]


def _opening(sentence: list[str], i: int, before: list[str]) -> tuple[Stretch | None, int]:
  """The stretch that word `i` opens, or None, and how many words the opener takes."""
  token = sentence[i]
  following, third = (sentence[i + 1 : i + 3] + ['', ''])[:2]
  previous = before[-1] if before else ''
  if token in _PAUSES or token[0] == '-':
    return Stretch([]), 1
  if token in CONTRASTS and previous not in ('not', 'and', 'nothing', 'anything', 'all', 'as'):
    return Stretch([], contrast=True), 1
  if token in ('except', 'excluding', 'barring') or (token, following) in _EXCEPTIONS:
    return Stretch([], exception=True), 2 if following in ('for', 'from', 'than') else 1
  if (token, following) in _INSTEADS:
    return Stretch([], replaced=True), 2
  if ((token, following) in _PURPOSES and previous != 'ask') or (
    token == 'to' and following in _PURPOSE_VERBS and previous not in _TAKES_TO
  ):
    return Stretch([], purpose=bool(before)), 2 if token in ('so', 'in') else 1
  if token == 'so' and before and following in _IMPERATIVES:
    return Stretch(['so']), 1
  if token == 'so' and following in _PRONOUNS and third in ('can', 'will'):
    return Stretch([], purpose=bool(before)), 1
  if token in ('will', 'would') and following in _EFFECT_VERBS and before:
    return Stretch([], purpose=True), 1
  if token in ('which', 'that', 'this', 'it') and following in _EFFECTS:
    return Stretch([], purpose=bool(before)), 1
  if token == 'with':
    return (Stretch([]), 1) if before and previous not in _KEEPS_WITH else (None, 1)
  if token in _JOINS and (previous, token) not in _COMPOUNDS and 'between' not in before[-4:]:
    return Stretch([], condition=token in ('if', 'unless'), circumstance=token in _CIRCUMSTANCES), 1
  if token in _JOINS_BEFORE_SUBJECT and following in _SUBJECTS and previous != token and third != 'should':
    return Stretch([], circumstance=token == 'as'), 1
  return None, 1
