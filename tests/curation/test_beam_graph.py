import pytest

beam = pytest.importorskip('apache_beam')  # an extra, which wants an environment of its own

from crosstrainer_jax.curation import scan, steps  # noqa: E402
from crosstrainer_jax.curation.manifest import read  # noqa: E402
from crosstrainer_jax.curation.run import Run  # noqa: E402


def test_the_graph_leaves_the_same_manifest(curated, howto, tmp_path):
  settings = steps.Settings(str(howto), windows=steps.look.Windows(longest=4.0))
  folder = scan.Folder(str(howto), table=str(howto / 'table.csv'))
  Run(tmp_path, folder, settings, test_fraction=0.3).make(beam_options=['--runner=DirectRunner'])
  expected, found = ({row['id']: row for row in read(place)} for place in (curated, tmp_path))
  assert found == expected


def test_an_option_that_is_none_is_told(howto, tmp_path):
  own = Run(tmp_path, scan.Folder(str(howto), sport='judo'), steps.Settings(str(howto)))
  with pytest.raises(ValueError, match='DirectRunner'):
    own.make(beam_options=['DirectRunner'])
