"""The five pseudo-sports that the paper sorts the exercises of QEVD into (CrossTrainer, Table 2), by their short names.

The short names are those of the paper's Figure 6: what Table 2 calls "stretches & mobility" is "stretches" here.
"""

import re

STRETCHES = 'stretches'
CARDIO = 'cardio'
LEGS = 'leg strength'
CORE = 'core'
FULL_BODY = 'full body'
# Exercises of the short clips that the paper does not sort, since it uses the long sessions alone.
OTHER = 'other exercises'

GROUPS = {
  STRETCHES: ('quad stretch', 'deltoid stretch', 'good morning beginner', 'floor touches', 'toe touchers'),
  CARDIO: ('high knees', 'quick feet', 'jumping jacks', 'air jump rope', 'butt kickers', 'puddle jumps'),
  LEGS: ('squats', 'squat jumps', 'squat kicks', 'walking lunges', 'lunge jumps', 'standing kicks'),
  CORE: ('plank taps', 'moving plank', 'pushups', 'shoulder gators'),
  FULL_BODY: ('boxing squat punches', 'mountain climbers'),
}
# What the files call the deltoid stretch here and there.
_OLD_NAME = 'armcrosschest'
_NEW_NAME = 'deltoid stretch'


def renamed(text: str) -> str:
  """Text of the files with one name for each exercise."""
  return text.replace(_OLD_NAME, _NEW_NAME)


def place(exercise: str) -> tuple[str, str]:
  """(pseudo-sport, skill) of an exercise; `OTHER` and its own name for one that the paper does not sort.

  Case, hyphens, blanks and the plural do not matter: "Push-Ups" are "pushups".
  """
  name = ' '.join(renamed(exercise.lower()).split())
  return _PLACES.get(_key(name), (OTHER, name))


def _key(name: str) -> str:
  return re.sub('[^a-z]', '', name).rstrip('s')


_PLACES = {_key(name): (sport, name) for sport, names in GROUPS.items() for name in names}
