"""What a take of Ego-Exo4D shows, by its task's number: the thousands are the scenario, the rest a drill or a route.

The paper (section 4.1) uses three scenarios: five drills of two of them are its skills, and climbing is not sorted.
"""

# Scenario's name, as `--sports` takes it, by the task that stands for the whole of it.
SCENARIOS = {
  1000: 'cooking',
  2000: 'health',
  3000: 'camping',
  4000: 'bike repair',
  5000: 'music',
  6000: 'basketball',
  7000: 'rock climbing',
  8000: 'soccer',
  9000: 'dance',
}
PAPER = ('soccer', 'basketball', 'rock climbing')

# Drills of the sports of the paper.
_DRILLS = {
  6001: 'mikan layup',
  6002: 'reverse layup',
  6003: 'mid-range jump shot',
  8001: 'inside trap and outside play',
  8002: 'outside trap and outside play',
  8003: 'dribbling',
  8004: 'juggling',
  8005: 'penalty kick',
}
PAPER_SKILLS = ('mikan layup', 'reverse layup', 'mid-range jump shot', 'dribbling', 'penalty kick', 'rock climbing')


def sport_of(task: int) -> str:
  """The scenario; '' for a number that belongs to none."""
  return SCENARIOS.get(task // 1000 * 1000, '')


def skill_of(task: int, name: str) -> str:
  """The skill, lower case: the paper's where it has one, for other scenarios the task's `name` of takes.json."""
  sport = sport_of(task)
  if sport == 'rock climbing':
    return sport  # tasks are routes
  return _DRILLS.get(task) or ' '.join(name.lower().split()) or sport
