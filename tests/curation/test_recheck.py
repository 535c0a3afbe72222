import datetime
import json
import shutil
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crosstrainer_jax.curation import recheck
from crosstrainer_jax.curation.manifest import read


@pytest.fixture
def site():
  """(address, what it answers by video, which videos were asked about)."""
  answers, asked = {}, []

  class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
      pass

    def do_GET(self):
      name = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)['url'][0].rpartition('=')[2]
      asked.append(name)
      states = answers.get(name, [200])
      self.send_response(states.pop(0) if len(states) > 1 else states[0])
      self.send_header('Retry-After', '0')
      self.send_header('Content-Length', '0')
      self.end_headers()

  server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f'http://127.0.0.1:{server.server_address[1]}/oembed', answers, asked
  server.shutdown()
  server.server_close()


def later():
  return datetime.datetime(2031, 5, 4, tzinfo=datetime.UTC)


def test_the_manifest_tells_what_can_still_be_seen(site, curated, tmp_path):
  address, answers, asked = site
  place = tmp_path / 'library'
  shutil.copytree(curated, place)
  answers |= {'v00': [404], 'v01': [401], 'v02': [503, 200], 'v03': [500]}
  found = recheck.recheck(place, address, 60_000, later)
  rows = {row['video_id']: row for row in read(place) if row['kept']}
  assert (rows['v00']['availability'], rows['v01']['availability']) == (recheck.GONE, recheck.CLOSED)
  assert (rows['v02']['availability'], rows['v02']['last_seen']) == (recheck.PUBLIC, '2031-05-04')
  assert rows['v03']['availability'] == 'public'
  assert rows['v03']['last_seen'] != '2031-05-04' != rows['v00']['last_seen']
  assert found[recheck.UNKNOWN] == 1
  assert asked.count('v03') == 4

  # what is known of a video stays when the manifest is written anew
  states = recheck.last_states(place)
  assert recheck.with_state({'video_id': 'v00', 'availability': 'public', 'last_seen': 'x'}, states) == {
    'video_id': 'v00', 'availability': recheck.GONE, 'last_seen': 'x',
  }  # fmt: skip

  asked.clear()
  recheck.recheck(place, address, 60_000, later)
  assert set(asked) == {'v03'}  # what was answered today is not asked again
  assert all(json.loads(line)['state'] for line in (place / recheck.FILE).read_text().splitlines())


def test_without_a_network_nothing_changes(curated, tmp_path):
  place = tmp_path / 'library'
  shutil.copytree(curated, place)
  before = list(read(place))
  with pytest.raises(ValueError, match='is this machine online'):
    recheck.recheck(place, 'http://127.0.0.1:9/oembed', 60_000)
  assert list(read(place)) == before
