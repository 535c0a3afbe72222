"""./launch_tpu.sh CONFIG --tpu …, against a stand-in for gcloud that fails in the ways of the real one."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.pods.conftest import ROOT, STUBS

SPOT = ('--type', 'v5litepod-16', '--spot')
RUN = ['status', 'scp', 'install', 'start', 'follow']


# --- What goes well


def test_a_tpu_that_is_there_is_used_and_stays(cloud, launch, capsys):
  cloud.play(node={'state': 'READY'})
  assert launch() == 0
  assert cloud.kinds() == RUN
  out = capsys.readouterr().out
  assert 'Started on 2 workers' in out
  assert out.endswith('t was not asked for here, so it stays.\n')


def test_a_tpu_is_asked_for_waited_for_and_deleted(cloud, launch, capsys):
  cloud.play(progress=['WAITING_FOR_RESOURCES', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE'])
  assert launch(*SPOT) == 0
  assert cloud.kinds() == ['create', *RUN, 'delete']
  [create] = [words for words in cloud.calls() if 'create' in words]
  assert {'--spot', '--runtime-version=v2-alpha-tpuv5-lite', '--accelerator-type=v5litepod-16'} <= set(create)
  out = capsys.readouterr().out
  assert [out.index(f'request t: {state}') for state in ('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')]
  assert out.count('WAITING_FOR_RESOURCES') == 1
  assert out.endswith('t is deleted.\n')
  assert cloud.state['node'] is None


def test_keep_keeps(cloud, launch, capsys):
  cloud.play()
  assert launch(*SPOT, '--keep') == 0
  assert 'delete' not in cloud.kinds()
  assert (
    't stays, as you asked (--keep), and costs. To delete it: gcloud compute tpus queued-resources delete t --force'
    in (capsys.readouterr().out)
  )


def test_flags_of_ones_own_go_to_the_request(cloud, launch, monkeypatch):
  monkeypatch.setenv('POD_CREATE_FLAGS', "--network=mine --service-account='a@b'")
  cloud.play()
  assert launch(*SPOT) == 0
  [create] = [words for words in cloud.calls() if 'create' in words]
  assert {'--network=mine', '--service-account=a@b'} <= set(create)


def test_worker_0_is_shown_and_all_are_kept(cloud, launch, capsys):
  lines = [
    '[0] loss 2',
    '[1] other',
    '[0] loss 1',
    '[0] the job ended with status 0',
    '[1] the job ended with status 0',
  ]
  cloud.play(node={'state': 'READY'}, events={'follow': [{'lines': lines}]})
  assert launch() == 0
  out = capsys.readouterr().out
  assert 'loss 2\nloss 1\n' in out
  assert 'other' not in out
  [logs] = pathlib.Path('runs/pods/t').iterdir()
  assert (logs / 'worker-0.log').read_text() == 'loss 2\nloss 1\n'
  assert (logs / 'worker-1.log').read_text() == 'other\n'


# --- Lost


def test_a_preempted_run_resumes_on_a_new_tpu(cloud, launch, capsys):
  cloud.play(events={'follow': ['preempted', 'preempted']})
  assert launch(*SPOT) == 0
  assert cloud.kinds() == ['create', *RUN, *['delete', 'create', *RUN] * 2, 'delete']
  out = capsys.readouterr().out
  assert 'the run goes on from its last checkpoint' in out
  assert 'Asking again, 2 of 20' in out


def test_a_tpu_may_be_lost_while_it_is_installed(cloud, launch):
  cloud.play(events={'install': ['preempted']})
  assert launch(*SPOT) == 0
  assert cloud.kinds() == ['create', 'status', 'scp', 'install', 'delete', 'create', *RUN, 'delete']


def test_what_is_lost_too_often_is_given_up(cloud, launch, capsys):
  cloud.play(events={'follow': ['preempted'] * 3})
  assert launch(*SPOT, '--retries=1') == 1
  assert cloud.kinds().count('create') == 2
  assert '--retries=1 allows no more' in capsys.readouterr().out


def test_a_run_that_was_told_to_end_resumes_when_the_tpu_is_taken_away(cloud, launch, capsys):
  """The job saves at SIGTERM and ends with 75, some seconds before the TPU shows what becomes of it."""
  gone = [{'lines': ['[0] the job ended with status 75'], 'status': 75}]
  taken = ['ok', 'ok', 'ok', {'error': "NOT_FOUND: Resource 't' was not found"}]
  cloud.play(events={'follow': gone, 'node': ['ok', *taken]})
  assert launch(*SPOT) == 0
  assert 'looking whether the TPU is being taken away' in capsys.readouterr().out
  assert cloud.kinds().count('follow') == 2


def test_a_run_that_somebody_ended_stays_ended(cloud, launch, capsys):
  cloud.play(events={'follow': [{'lines': ['[1] the job ended with status 75'], 'status': 75}]})
  assert launch(*SPOT) == 75
  assert 'somebody ended the job' in capsys.readouterr().out


def test_without_a_bucket_it_says_what_would_be_lost_and_does_not_call_it_resumed(cloud, launch, capsys):
  cloud.play(workers=1, events={'follow': ['preempted']})
  assert launch('--type=v5litepod-8', '--spot', bucket=False) == 1
  out = capsys.readouterr().out
  assert out.count('This run cannot be resumed on another TPU: its workdir runs/t lies on the TPU’s own disk.') == 2
  assert 'checkpoints, curves and report are lost. With --workdir=gs://BUCKET/FOLDER' in out
  assert cloud.kinds().count('create') == 1


def test_a_failed_run_without_a_bucket_keeps_the_only_copy(cloud, launch, capsys):
  cloud.play(workers=1, events={'follow': [{'lines': ['[0] the job ended with status 1'], 'status': 1}]})
  assert launch('--type=v5litepod-8', bucket=False) == 1
  assert 'delete' not in cloud.kinds()
  assert 't stays, since what was trained so far lies there alone' in capsys.readouterr().out


def test_somebody_elses_preempted_tpu_is_left_alone(cloud, launch, capsys):
  cloud.play(node={'state': 'PREEMPTED'}, request={'state': 'SUSPENDED', 'ours': False})
  assert launch(*SPOT) == 1
  assert not cloud.kinds()
  assert 'was made by somebody else, so it stays as it is. Delete it' in capsys.readouterr().out


def test_our_suspended_request_is_made_anew(cloud, launch):
  cloud.play(node={'state': 'PREEMPTED'}, request={'state': 'SUSPENDED', 'ours': True})
  assert launch(*SPOT) == 0
  assert cloud.kinds() == ['delete', 'create', *RUN, 'delete']


def test_a_tpu_in_maintenance_is_waited_for_and_then_given_back(cloud, launch, monkeypatch):
  import pods.machine

  monkeypatch.setattr(pods.machine, 'PATIENCE', 3)
  cloud.play(node={'state': 'READY', 'health': 'UNHEALTHY_MAINTENANCE'}, request={'state': 'ACTIVE', 'ours': True})
  assert launch(*SPOT) == 0
  assert cloud.kinds()[:2] == ['delete', 'create']


# --- What the cloud refuses


@pytest.mark.parametrize(
  ('scenario', 'fix'),
  [
    ({'account': False}, 'Nobody is logged in here: gcloud auth login'),
    ({'project': 'other'}, 'Is the project p the right one, and z a zone with TPUs'),
    (
      {'events': {'node': [{'error': 'PERMISSION_DENIED: SERVICE_DISABLED'}]}},
      'gcloud services enable tpu.googleapis.com',
    ),
    (
      {'events': {'create': [{'error': "RESOURCE_EXHAUSTED: Quota limit 'TPUV5s' has been exceeded. Limit: 0"}]}},
      'The quota of this project does not allow it',
    ),
    ({'node': {'state': 'READY'}, 'agent': False}, 'ssh-add ~/.ssh/google_compute_engine'),
    ({'node': {'state': 'STOPPED'}}, 'The TPU t is STOPPED. Start it: gcloud compute tpus tpu-vm start t --zone=z'),
    ({'node': {'state': 'PREEMPTED'}}, 'was not asked for through a queued resource'),
  ],
)
def test_a_refusal_comes_with_its_remedy(cloud, launch, capsys, scenario, fix):
  cloud.play(**scenario)
  assert launch(*SPOT) == 1
  out = capsys.readouterr().out
  assert fix in out
  assert 'Traceback' not in out
  assert not {'install', 'delete'} & set(cloud.kinds())


def test_without_a_type_none_is_asked_for(cloud, launch, capsys):
  cloud.play()
  assert launch() == 1
  assert not cloud.kinds()
  assert 'There is no TPU t in z. To ask for one, say which: --type v5litepod-16' in capsys.readouterr().out


def test_a_request_that_failed_for_want_of_capacity_is_made_again(cloud, launch, capsys):
  reason = 'There is no more capacity in the zone "z"; you can try in another zone'
  cloud.play(request={'state': 'FAILED', 'ours': True, 'reason': reason})
  assert launch(*SPOT) == 0
  assert cloud.kinds()[:2] == ['delete', 'create']
  assert reason in capsys.readouterr().out


def test_a_request_that_can_never_be_granted_is_not(cloud, launch, capsys):
  cloud.play(request={'state': 'FAILED', 'ours': True, 'reason': 'Quota limit has been exceeded'})
  assert launch(*SPOT) == 1
  assert cloud.kinds() == ['delete']
  assert 'The quota of this project does not allow it' in capsys.readouterr().out


def test_what_passes_by_itself_is_tried_again(cloud, launch):
  busy = {'error': 'HTTPError 503: The service is currently UNAVAILABLE.'}
  cloud.play(node={'state': 'READY'}, events={'node': [busy, busy]})
  assert launch() == 0


# --- Workers


def test_a_connection_that_fails_once_is_made_again(cloud, launch, capsys):
  cloud.play(node={'state': 'READY'}, events={'status': ['lost'], 'start': ['lost'], 'follow': ['lost']})
  assert launch() == 0
  assert cloud.kinds() == ['status', 'status', 'scp', 'install', 'start', 'start', 'follow', 'follow']
  assert 'a connection is lost; the job goes on. Connecting again' in capsys.readouterr().out
  sessions = {word for words in cloud.calls() for word in words if 'follow' in word}
  assert len(sessions) == 1  # so that nothing is shown twice


def test_a_worker_that_is_never_reached_is_an_error(cloud, launch, capsys):
  cloud.play(node={'state': 'READY'}, events={'install': ['lost'] * 3})
  assert launch() == 1
  out = capsys.readouterr().out
  assert 'A worker of t cannot be reached; what gcloud said: runs/pods/t/' in out
  [logs] = pathlib.Path('runs/pods/t').iterdir()
  assert 'exited with return code [255]' in (logs / 'gcloud.log').read_text()


def test_copying_is_tried_three_times(cloud, launch, capsys):
  broken = {'error': '[/usr/bin/scp] exited with return code [1].'}
  cloud.play(node={'state': 'READY'}, events={'scp': [broken, broken]})
  assert launch() == 0
  assert cloud.kinds().count('scp') == 3
  assert 'copying failed, trying again' in capsys.readouterr().out


def test_a_failed_installation_shows_what_its_worker_said(cloud, launch, capsys):
  lines = ['[0] Installed', '[1] No matching distribution']
  cloud.play(events={'install': [{'lines': lines, 'status': 1}]})
  assert launch(*SPOT) == 1
  assert 'install-1.log\nNo matching distribution' in capsys.readouterr().out
  assert cloud.kinds()[-1] == 'delete'


def test_a_failed_job_names_the_worker_and_ends_the_others(cloud, launch, capsys):
  lines = ['[1] Error: no such bucket', '[1] the job ended with status 3']
  cloud.play(events={'follow': [{'lines': lines, 'status': 3, 'seconds': 0.6}]})
  assert launch(*SPOT) == 3
  out = capsys.readouterr().out
  assert 'The job failed with status 3, first on worker 1' in out
  assert 'worker-1.log\nError: no such bucket' in out
  assert cloud.kinds()[-2:] == ['stop', 'delete']


def test_a_job_that_was_killed_is_started_again_and_its_peers_are_not_blamed(cloud, launch, capsys):
  lines = ['[0] the job ended with status 77', '[1] Killed', '[1] the job ended with status 137']
  killed = {'lines': lines, 'status': 77}
  cloud.play(events={'follow': [killed]})
  assert launch(*SPOT) == 0
  assert cloud.kinds() == ['create', *RUN, 'start', 'follow', 'delete']
  assert 'started again (it was killed): 1 of 3' in capsys.readouterr().out


def test_a_job_that_is_killed_every_time_is_given_up(cloud, launch, capsys):
  lines = ['[0] the job ended with status 134', '[1] Killed', '[1] the job ended with status 137']
  cloud.play(events={'follow': [{'lines': lines, 'status': 134}] * 4})
  assert launch(*SPOT) == 137
  out = capsys.readouterr().out
  assert 'The job failed with status 137, first on worker 1' in out
  assert 'worker-1.log\nKilled' in out


def test_a_job_that_runs_is_followed_not_started_again(cloud, launch, capsys):
  from pods.job import Job
  from pods.options import parse

  words = ['configs/cross_sport.py:smoke', '--tpu=t', '--zone=z', '--project=p', '--workdir=gs://bucket/run']
  token = Job(parse(words, ROOT), None, None, pathlib.Path(), print).token
  cloud.play(node={'state': 'READY'}, events={'status': [{'lines': [f'[{n}] running {token} x' for n in (0, 1)]}]})
  assert launch() == 0
  assert cloud.kinds() == ['status', 'follow']
  cloud.play(node={'state': 'READY'}, events={'status': ['ok', {'lines': ['[0] running other configs/x.py --a']}]})
  assert launch() == 1
  assert 'Another job runs on t: ./launch_tpu.sh configs/x.py --a' in capsys.readouterr().out
  half = {'lines': [f'[0] running {token} x', '[1] none']}
  cloud.play(node={'state': 'READY'}, events={'status': ['ok', 'ok', half]})
  assert launch() == 0
  assert cloud.kinds()[-7:] == ['status', 'stop', 'status', 'scp', 'install', 'start', 'follow']


# --- The whole way, with workers that really run what they are told


STAND_IN = f"""#!/bin/bash
case "$1 $2" in
  '-m venv') mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip') exit ;;
  '-m crosstrainer_jax.train') echo "worker $TPU_WORKER_ID runs $*"
    for i in 1 2 3; do echo "step $i"; sleep "$STEP"; done ;;
  '--version ') echo 'Python 3.11.0' ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def checkout(cloud, tmp_path, monkeypatch):
  """A small checkout whose Python only says what it was asked for; returns what starts its launch_tpu.sh."""
  root = tmp_path / 'a checkout'
  root.mkdir()
  for name in ('launch_tpu.sh', 'environment.sh', 'setup.cfg', 'pyproject.toml'):
    shutil.copy(ROOT / name, root)
  shutil.copytree(ROOT / 'pods', root / 'pods', ignore=shutil.ignore_patterns('__pycache__'))
  (root / 'configs').mkdir()
  (root / 'configs' / 'small.py').write_text('"""A small run."""\n\ndef get_config():\n  pass\n')
  stand_ins = tmp_path / 'bin'
  stand_ins.mkdir()
  (stand_ins / 'python3').write_text(STAND_IN)
  (stand_ins / 'python3').chmod(0o755)
  environment = {
    **os.environ, 'PATH': f'{STUBS}:{stand_ins}:{os.environ["PATH"]}', 'CROSSTRAINER_EXTRA': 'cpu', 'STEP': '0.1',
    'POD_POLL': '0.05', 'POD_TICK': '0.05',
  }  # fmt: skip

  def start(*words: str, **more: str) -> subprocess.Popen:
    """In a terminal of its own, so to say: Ctrl-C comes through, even where these tests run in the background."""
    heard = 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])'
    command = [sys.executable, '-c', heard, str(root / 'launch_tpu.sh'), 'configs/small.py']
    command += ['--tpu', 't', '--zone=z', '--project=p', *words]
    return subprocess.Popen(
      command, cwd=tmp_path, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      start_new_session=True,
    )  # fmt: skip

  return start


def test_the_whole_way(cloud, checkout, tmp_path):
  cloud.play(real=True)
  process = checkout('--type=v5litepod-16', '--workdir=gs://b/a run', '--config.seed=1')
  out = process.communicate(timeout=60)[0]
  assert process.returncode == 0, out
  job = '-m crosstrainer_jax.train --config=configs/small.py --workdir=gs://b/a run --config.seed=1'
  assert f'worker 0 runs {job}\nstep 1\nstep 2\nstep 3\n' in out
  [logs] = (tmp_path / 'runs' / 'pods' / 't').iterdir()
  assert (logs / 'worker-1.log').read_text().splitlines()[-4:] == [f'worker 1 runs {job}', 'step 1', 'step 2', 'step 3']
  assert out.endswith('t is deleted.\n')


def test_a_run_outlives_its_terminal_and_its_pod(cloud, checkout):
  """Ctrl-C says what stays; the same command follows the job; the pod is preempted; the run starts on the next one."""
  cloud.play(real=True, events={'follow': ['ok', 'preempted']}, seconds=0.8)
  words = ('--type=v5litepod-16', '--workdir=gs://b/run')
  first = checkout(*words, STEP='20')
  seen = ''
  for line in first.stdout:
    seen += line
    if line == 'step 1\n':
      break
  os.killpg(first.pid, signal.SIGINT)
  seen += first.communicate(timeout=30)[0]
  assert first.returncode == 130, seen
  assert 'the job on t, which goes on; the same command follows it again' in seen
  assert "--worker=all '--command=python3 crosstrainer_jax/pods/worker.py stop'" in seen
  assert 'gcloud compute tpus queued-resources delete t --force --zone=z --project=p --quiet' in seen
  second = checkout(*words)
  out = second.communicate(timeout=60)[0]
  assert second.returncode == 0, out
  assert out.index('The job runs there already') < out.index('step 1') < out.index('The TPU is lost')
  assert out.index('The TPU is lost') < out.index('Started on 2 workers') < out.index('step 3')


def test_ctrl_c_while_waiting_says_that_the_request_stays(cloud, checkout):
  cloud.play(progress=['WAITING_FOR_RESOURCES'] * 10_000)
  process = checkout('--type=v5litepod-16', '--workdir=gs://b/run')
  seen = ''
  for line in process.stdout:
    seen += line
    if 'WAITING_FOR_RESOURCES' in line:
      break
  assert 'nothing is paid for until it is ACTIVE' in seen
  time.sleep(0.2)
  os.killpg(process.pid, signal.SIGINT)
  seen += process.communicate(timeout=30)[0]
  assert process.returncode == 130
  assert 'the request for t, if it was made; the same command waits for it again' in seen
  assert 'Traceback' not in seen
  assert 'delete' not in cloud.kinds()


# --- The plan


def test_dry_run_prints_commands_that_gcloud_would_take_and_runs_none(cloud, launch, capsys):
  cloud.play()
  assert launch(*SPOT, '--dry-run') == 0
  assert not cloud.calls()
  commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith('gcloud ')]
  assert len(commands) > 10
  cloud.play(node={'state': 'READY'}, request={'state': 'ACTIVE', 'ours': True})
  for command in commands:
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
    assert done.returncode != 2, done.stderr  # a status of its own for arguments that it does not take


def test_the_plan_names_what_a_launch_does(cloud, launch, capsys):
  cloud.play(events={'follow': ['preempted']})
  assert launch(*SPOT) == 0
  done = {tuple(_masked(words)) for words in cloud.calls()}
  capsys.readouterr()
  assert launch(*SPOT, '--dry-run') == 0
  lines = capsys.readouterr().out.splitlines()
  planned = {tuple(_masked(shlex.split(line)[1:])) for line in lines if line.startswith('gcloud ')}
  assert planned == done


def _masked(words):
  return [word.split('follow')[0] if 'follow' in word else word.split('/crosstrainer_jax.tar.gz')[-1] for word in words
          if not word.endswith('crosstrainer_jax.tar.gz') or ':' in word]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcloud'), reason='needs the real gcloud')
def test_the_real_gcloud_takes_these_commands(cloud, launch, capsys, tmp_path):
  """Logged out, it refuses every command for that reason, after it has read the arguments."""
  cloud.play()
  launch(*SPOT, '--dry-run')
  commands = {line for line in capsys.readouterr().out.splitlines() if line.startswith('gcloud ')}
  (pathlib.Path.cwd() / 'crosstrainer_jax.tar.gz').touch()
  path = os.environ['PATH'].split(':', 2)[2]
  for command in commands:
    environment = {**os.environ, 'PATH': path, 'CLOUDSDK_CONFIG': str(tmp_path / 'config')}
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, env=environment)
    assert 'You do not currently have an active account selected' in done.stderr, f'{command}\n{done.stderr}'
