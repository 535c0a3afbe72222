from crosstrainer_jax.discovery.backend import Attributes, discover_each
from crosstrainer_jax.discovery.language_model import Unreadable

COMMENTS = [('wobbly', 'soccer'), ('', 'fitness')]


class OneByOne:
  fingerprint = 'one'

  def discover(self, commentary: str, sport: str) -> Attributes:
    return Attributes([sport], [commentary])


class ManyAtOnce(OneByOne):
  def discover_many(self, comments):
    yield 1, Unreadable('no')
    yield 0, Attributes(['many'])


def test_a_backend_that_reads_one_comment_at_a_time():
  assert list(discover_each(OneByOne(), COMMENTS)) == [
    (0, Attributes(['soccer'], ['wobbly'])), (1, Attributes(['fitness'], [''])),
  ]  # fmt: skip


def test_a_backend_that_reads_many():
  (one, lost), (zero, found) = discover_each(ManyAtOnce(), COMMENTS)
  assert (one, zero, found) == (1, 0, Attributes(['many']))
  assert isinstance(lost, Unreadable)
