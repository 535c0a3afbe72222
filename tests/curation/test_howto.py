from crosstrainer_jax.curation import howto
from crosstrainer_jax.input.source import ClipSource


def test_the_world_becomes_a_dataset_once(tmp_path, capsys):
  place = howto.prepare(tmp_path, seed=2, videos=7, test_fraction=0.5)
  clips = ClipSource(place).infos()
  assert len(clips) > 15
  assert len({clip.participant for clip in clips}) == 2
  assert all(clip.commentary and clip.extra for clip in clips)
  assert (place.parents[2] / 'report.md').is_file()
  capsys.readouterr()
  assert howto.prepare(tmp_path, seed=2, videos=7, test_fraction=0.5) == place
  assert 'prepared already' in capsys.readouterr().out
