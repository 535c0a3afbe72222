import pytest

from crosstrainer_jax.datasets.howto import script, subtitles
from crosstrainer_jax.input.captions import read_captions

PIECES = script.lesson(0, 1).pieces


@pytest.mark.parametrize('suffix', [*subtitles.FORMS, 'json'])
def test_every_form_is_read_back_word_by_word(suffix, tmp_path):
  write = subtitles.whisper if suffix == 'json' else subtitles.FORMS[suffix][1]
  file = tmp_path / f'x.{suffix}'
  file.write_text(write(PIECES, lag=1.0))
  found = read_captions(file)
  assert found.malformed == 0
  words = ' '.join(cue.text for cue in found.cues).lower().replace(',', '').replace('.', '')
  assert words == ' '.join(piece.text for piece in PIECES).lower().replace(',', '').replace('.', '')
  assert found.cues[0].start == pytest.approx(PIECES[0].start + 1.0, abs=0.02)


def test_recognised_words_have_times(tmp_path):
  for suffix in ('json3', 'vtt'):
    (tmp_path / f'x.{suffix}').write_text(subtitles.FORMS[suffix][1](PIECES))
    cues = read_captions(tmp_path / f'x.{suffix}').cues
    assert all(cue.start <= cue.last_word < cue.end for cue in cues if len(cue.text.split()) > 1)
