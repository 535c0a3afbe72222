import dataclasses

import pytest

from crosstrainer_jax.models.registry import configure


@dataclasses.dataclass
class Config:
  width: int
  depth: int = 2


REGISTRY = {'plain': (Config, object)}


def test_a_config_is_filled():
  assert configure('encoder', REGISTRY, 'plain', {'width': 3}) == Config(3, 2)


def test_an_unknown_name_is_answered_with_the_known_ones():
  with pytest.raises(ValueError, match=r"config\.encoder\.name='plane' is not one of \['plain'\]"):
    configure('encoder', REGISTRY, 'plane', {})


def test_an_unknown_setting_is_answered_with_the_known_ones():
  with pytest.raises(ValueError, match=r"decoder 'plain' has no setting \['heads'\]; it has \['depth', 'width'\]"):
    configure('decoder', REGISTRY, 'plain', {'width': 3, 'heads': 4})
