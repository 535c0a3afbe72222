"""The sports of the embedded world: four sports with three skills each."""

from crosstrainer_jax.datasets.skillsim.sports.basketball import SKILLS as BASKETBALL
from crosstrainer_jax.datasets.skillsim.sports.climbing import SKILLS as CLIMBING
from crosstrainer_jax.datasets.skillsim.sports.fitness import SKILLS as FITNESS
from crosstrainer_jax.datasets.skillsim.sports.skill import Skill
from crosstrainer_jax.datasets.skillsim.sports.soccer import SKILLS as SOCCER

SPORTS: dict[str, tuple[Skill, ...]] = {
  'soccer': SOCCER,
  'basketball': BASKETBALL,
  'rock climbing': CLIMBING,
  'fitness': FITNESS,
}
SKILLS: dict[str, Skill] = {skill.name: skill for skills in SPORTS.values() for skill in skills}
