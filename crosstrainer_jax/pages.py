"""Pages of the documentation that commands write their results into."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.settings import SettingsError

# Renders the Markdown with these columns (all if none) for a page in this folder; None leaves the page as it is.
Render = Callable[[Sequence[str], Path], str | None]


def replace_block(page: Path, marker: str, render: Render) -> None:
  """Replaces what a page has between `<!-- MARKER -->` and `<!-- end -->`, as often as it has it.

  The first may choose columns of the table: `<!-- sweep:transfer: attribute F1, feedback F1 -->`.

  Args:
    render: makes the Markdown.

  Raises:
    FileNotFoundError, SettingsError: no such page or no such block.
  """
  if not page.is_file():
    raise FileNotFoundError(f'there is no page {page} to write to')
  block = re.compile(
    rf'(?P<begin><!-- {re.escape(marker)}(?:: (?P<columns>[^>]+?))? -->\n)'
    r'(?:(?!<!-- (?:sweep|eval):).)*?(?P<end><!-- end -->)',
    re.DOTALL,
  )

  def filled(match: re.Match[str]) -> str:
    text = render([column.strip() for column in (match['columns'] or '').split(',') if column.strip()], page.parent)
    return match[0] if text is None else f'{match["begin"]}\n{text.strip()}\n\n{match["end"]}'

  old = page.read_text(encoding='utf-8')
  new, count = block.subn(filled, old)
  if not count:
    raise SettingsError(
      f'{page} has no place for the result: put the lines <!-- {marker} --> and <!-- end --> where it shall stand'
    )
  if new != old:
    write_atomically(page, new)
