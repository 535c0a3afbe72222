"""What ./launch_tpu.sh CONFIG --tpu NAME … takes, and what it refuses before anything is asked of the cloud."""

import pytest

from pods.options import OptionsError, parse, runtime_of, several_hosts
from tests.pods.conftest import ROOT

ASKED = ['configs/cross_sport.py:smoke', '--tpu', 'pod', '--zone=z', '--project', 'p']


def test_both_ways_of_writing_are_read():
  options = parse(
    [*ASKED, '--type=v5litepod-8', '--spot', '--config.seed=1', '--workdir=gs://b/r', '--retries', '3'], ROOT
  )
  assert (options.tpu, options.zone, options.project, options.retries) == ('pod', 'z', 'p', 3)
  assert options.config == 'configs/cross_sport.py:smoke'
  assert options.arguments == ('--config.seed=1', '--workdir=gs://b/r')
  assert options.spot
  assert not options.keep
  assert options.resumable


def test_without_a_workdir_the_run_has_one_by_the_name_of_the_tpu():
  options = parse([*ASKED, '--type=v5litepod-8'], ROOT)
  assert options.arguments == ('--workdir=runs/pod',)
  assert not options.resumable


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['configs/cross_sport.py', '--tpu', 'pod'], '--tpu pod needs --zone and --project too'),
    ([*ASKED, '--zone'], '--zone needs a value'),
    ([*ASKED, 'other'], r'One config is needed, 2 were given \(configs/cross_sport.py:smoke, other\)'),
    (ASKED[1:], 'One config is needed, 0 were given'),
    (['configs/none.py', *ASKED[1:]], 'There is no config configs/none.py'),
    (['/etc/passwd', *ASKED[1:]], 'lies outside the checkout'),
    ([*ASKED, '--tpu=My_pod'], '--tpu My_pod: a name has small letters'),
    ([*ASKED, '--type=v5e'], '--type v5e: such as v5litepod-16'),
    ([*ASKED, '--type=tpu7x-8'], '--type tpu7x-8: such as'),
    ([*ASKED, '--type=v9-8'], 'no runtime version is known for --type v9-8'),
    ([*ASKED, '--spot'], '--spot says how to ask for a TPU; say which with --type'),
    ([*ASKED, '--retries=often'], '--retries is a number'),
    ([*ASKED, '--type=v5litepod-16'], r'several hosts, which must all see one workdir: --workdir=gs://BUCKET/FOLDER'),
    ([*ASKED, '--type=v4-16', '--workdir=runs/mine'], 'several hosts'),
  ],
)
def test_what_cannot_be_is_refused(words, message):
  with pytest.raises(OptionsError, match=message):
    parse(words, ROOT)


def test_a_disk_that_all_workers_have_mounted_will_do():
  assert parse([*ASKED, '--type=v4-16', '--workdir=/mnt/disk/run'], ROOT).resumable


@pytest.mark.parametrize(
  ('kind', 'runtime', 'several'),
  [
    ('v5litepod-8', 'v2-alpha-tpuv5-lite', False),
    ('v5litepod-256', 'v2-alpha-tpuv5-lite', True),
    ('v5p-8', 'v2-alpha-tpuv5', False),
    ('v6e-16', 'v2-alpha-tpuv6e', True),
    ('v4-8', 'tpu-ubuntu2204-base', False),
    ('v3-32', 'tpu-ubuntu2204-base', True),
  ],
)
def test_types(kind, runtime, several):
  assert runtime_of(kind) == runtime
  assert several_hosts(kind) is several


def test_a_runtime_can_be_named():
  assert parse([*ASKED, '--type=v5litepod-8', '--runtime=mine'], ROOT).runtime == 'mine'
