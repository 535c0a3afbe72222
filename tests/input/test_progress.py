from crosstrainer_jax.input import progress
from crosstrainer_jax.input.progress import Progress


def test_elsewhere_than_on_a_terminal_there_is_a_line_now_and_then(monkeypatch, capsys):
  clock = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: clock[0])
  with Progress('discover', 10, 'clips') as shown:
    for seconds in (4, 8, 12, 13):
      clock[0] = seconds
      shown.advance(1)
  with Progress('discover', 10, 'clips', shown=False) as hidden:
    clock[0] = 100
    hidden.advance()
  said = capsys.readouterr().err.splitlines()
  # on the way, and when it ends if it was long
  assert said == ['discover: 3/10 clips, 0.25/s, 28 s left', 'discover: 4/10 clips, 0.308/s, 20 s left']
