"""What the registries of encoders and of decoders have in common: name -> (config dataclass, module)."""

import dataclasses
from typing import Any

Registry = dict[str, tuple[type, type]]


def configure(kind: str, registry: Registry, name: str, settings: dict[str, Any]) -> Any:
  """The config dataclass that `registry` has under `name`, filled with `settings`.

  Args:
    kind: what is registered, `encoder` or `decoder`, as the run's config calls it.

  Raises:
    ValueError: no such name, or a setting that its config does not have; the message says what there is.
  """
  if name not in registry:
    raise ValueError(f'config.{kind}.name={name!r} is not one of {sorted(registry)}')
  config_class = registry[name][0]
  known = {field.name for field in dataclasses.fields(config_class)}
  if unknown := set(settings) - known:
    raise ValueError(f'{kind} {name!r} has no setting {sorted(unknown)}; it has {sorted(known)}')
  return config_class(**settings)
