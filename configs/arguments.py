"""The argument of a config, `configs/cross_sport.py:held_out=soccer,smoke`: parsed, typed and checked by name."""

import difflib
import types
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
  """The end of an error message: the nearest of the valid names, or all of them when none is near."""
  names = sorted(valid)
  close = difflib.get_close_matches(name, names, n=1)
  if close:
    return f'did you mean {close[0]}?'
  return f'valid: {", ".join(names)}' if names else 'there is none to choose from'


def parse_arg(arg: str | None, **defaults: bool | int | float | str) -> types.SimpleNamespace:
  """Reads `key=value,flag` into a namespace that holds every default.

  A value takes the type of its default; a key without a value is a boolean set to True.

  Raises:
    ValueError: an unknown key (the nearest valid one is named), a repeated key, or a value of the wrong type.
  """
  values = dict(defaults)
  seen = set()
  for part in filter(None, (arg or '').split(',')):
    key, given, text = (piece.strip() for piece in part.partition('='))
    if key not in defaults:
      raise ValueError(f'unknown config argument {key!r}: {nearest(key, defaults)}')
    if key in seen:
      raise ValueError(f'config argument {key!r} is given twice')
    seen.add(key)
    values[key] = _convert(key, text if given else None, defaults[key])
  return types.SimpleNamespace(**values)


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
  """Returns `value` if it is one of the choices; else a ValueError names the nearest."""
  choices = list(choices)
  if value not in choices:
    raise ValueError(f'{name}={value} is not known: {nearest(value, choices)}')
  return value


def _convert(key: str, text: str | None, default: bool | int | float | str) -> bool | int | float | str:
  if isinstance(default, bool):
    word = 'true' if text is None else text.lower()
    if word not in ('true', 'false'):
      raise ValueError(f'config argument {key} is true or false, not {text!r}')
    return word == 'true'
  if not text:
    raise ValueError(f'config argument {key} needs a value: {key}={default}')
  try:
    return type(default)(text)
  except ValueError:
    raise ValueError(f'config argument {key} is {_noun(default)}, not {text!r}') from None


def _noun(default: int | float | str) -> str:
  return {int: 'an integer', float: 'a number'}.get(type(default), 'text')
