import collections
import errno
import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crosstrainer_jax.training.checkpoints import CheckpointError, Checkpoints, MisfitError, load_params, save_params
from crosstrainer_jax.training.step import TrainState, init_state

TX = optax.scale_by_adam()


def state(mesh, rows=16, extra=False, fill=0.0) -> TrainState:
  params = {'kernel': jnp.arange(2.0 * rows).reshape(rows, 2) + fill}
  if extra:
    params['bias'] = jnp.ones(8)
  return init_state(jax.device_put(params, jax.NamedSharding(mesh, jax.P('fsdp'))), TX, 3)


def at(state: TrainState, step: int) -> TrainState:
  return state._replace(step=jax.device_put(jnp.asarray(step, jnp.int32), state.step.sharding))


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
    np.testing.assert_array_equal(a, b)


def test_everything_comes_back_where_it_was(eight_devices, tmp_path):
  saved = at(state(eight_devices, fill=0.5), 7)
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.latest() is None
  checkpoints.save(7, saved, {'global_next_index': 56}, {'step': 1.5})
  checkpoints.close()
  step, restored, iterator, seconds = Checkpoints(tmp_path).restore(state(eight_devices))
  assert (step, iterator, seconds) == (7, {'global_next_index': 56}, {'step': 1.5})
  assert_same(restored, saved)


def test_a_checkpoint_moves_to_another_mesh(eight_devices, one_device, tmp_path):
  Checkpoints(tmp_path)
  save(tmp_path, at(state(eight_devices, fill=0.5), 7))
  restored = Checkpoints(tmp_path).restore(state(one_device))
  assert_same(restored.state, at(state(one_device, fill=0.5), 7))


def test_the_newest_are_kept(eight_devices, tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  for step in (2, 4, 6):
    checkpoints.save(step, at(state(eight_devices, fill=step), step), {'k': step})
  checkpoints.close()
  again = Checkpoints(tmp_path)
  assert again.latest() == 6
  assert folders(tmp_path) == ['4', '6']
  assert again.restore(state(eight_devices)).iterator == {'k': 6}


def folders(directory):
  return sorted(path.name for path in directory.iterdir() if path.is_dir())


def save(directory, *states, **options):
  """Saves states that have a step."""
  checkpoints = Checkpoints(directory, keep=10, **options)
  for each in states:
    checkpoints.save(int(each.step), each, {'k': int(each.step)})
  checkpoints.close()


def test_the_best_and_every_so_many_stay_too(eight_devices, tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=1, keep_every=4)
  for step, loss in ((1, 0.9), (2, 0.2), (3, 0.8), (4, None), (5, 0.7), (6, None)):
    checkpoints.save(step, at(state(eight_devices), step), {}, loss=loss)
  checkpoints.close()
  assert folders(tmp_path) == ['2', '4', '6']
  again = Checkpoints(tmp_path, keep=1, keep_every=4)
  assert again.best_loss() == 0.2
  again.save(7, at(state(eight_devices), 7), {}, loss=0.1)
  again.close()
  assert folders(tmp_path) == ['4', '7']


def test_another_base_is_refused_by_name(eight_devices, tmp_path):
  save(tmp_path, at(state(eight_devices), 3), base={'decoder': 'abc', 'encoder': 'e'})
  assert Checkpoints(tmp_path, base={'decoder': 'abc', 'encoder': 'e'}).restore(state(eight_devices)).step == 3
  with pytest.raises(MisfitError, match=r'trained on another decoder \(abc, now xyz\).* another --workdir'):
    Checkpoints(tmp_path, base={'decoder': 'xyz', 'encoder': 'e'}).restore(state(eight_devices))
  # one of an earlier version names none
  save(tmp_path / 'old', at(state(eight_devices), 3))
  assert Checkpoints(tmp_path / 'old', base={'decoder': 'xyz'}).restore(state(eight_devices)).step == 3


def missing(path):
  path.unlink()


def empty(path):
  path.write_bytes(b'')


def halved(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
  """One bit, in the middle."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


@pytest.mark.parametrize('damage', [missing, empty, halved, flipped])
def test_a_damaged_step_falls_back_to_the_one_before(eight_devices, tmp_path, damage, capsys):
  """Whichever of its files is damaged: either it does not matter, or the step before is taken and the line says so."""
  save(tmp_path / 'good', *(at(state(eight_devices, fill=step), step) for step in (3, 6)))
  files = sorted(path.relative_to(tmp_path / 'good') for path in (tmp_path / 'good' / '6').rglob('*') if path.is_file())
  assert len(files) > 5
  fallen = set()
  for number, file in enumerate(files):
    directory = tmp_path / f'{number}'
    shutil.copytree(tmp_path / 'good', directory)
    damage(directory / file)
    checkpoints = Checkpoints(directory)
    restored = checkpoints.restore(state(eight_devices))
    assert_same(restored.state, at(state(eight_devices, fill=restored.step), restored.step))
    assert restored.iterator == {'k': restored.step}
    said = capsys.readouterr().out
    if restored.step == 3:
      fallen.add(file.parent.name if file.parent.name == 'd' else file.name)
      assert f'{directory}/6 cannot be read (' in said, file
      assert 'kept as damaged-6, and the one before it is taken' in said
      # the run goes on over it
      checkpoints.save(6, at(state(eight_devices, fill=6), 6), {'k': 6})
      checkpoints.close()
      assert Checkpoints(directory).restore(state(eight_devices)).step == 6
  assert fallen >= {'_METADATA', 'manifest.ocdbt', 'metadata', 'd'}, fallen
  # what else was being read has left nothing that would complain
  gc.collect()


def test_with_all_steps_damaged_nothing_is_thrown_away(eight_devices, tmp_path):
  save(tmp_path, *(at(state(eight_devices), step) for step in (3, 6)))
  for step in (3, 6):
    shutil.rmtree(tmp_path / str(step) / 'state')
  with pytest.raises(CheckpointError, match=r'none of its checkpoints can be read \(6: .*; 3: .*move that folder away'):
    Checkpoints(tmp_path).restore(state(eight_devices))
  assert folders(tmp_path) == ['3', '6']


def test_a_storage_that_does_not_answer_is_no_damage(eight_devices, tmp_path, monkeypatch):
  save(tmp_path, *(at(state(eight_devices), step) for step in (3, 6)))
  for error in (
    PermissionError(errno.EACCES, 'Permission denied'),
    ValueError('UNAVAILABLE: try again'),
    MemoryError('denied'),
  ):
    checkpoints = Checkpoints(tmp_path)

    def fail(*_, error=error, **__):
      raise error

    monkeypatch.setattr(checkpoints._manager, 'restore', fail)
    with pytest.raises(CheckpointError, match=r'/6 cannot be read: .*(denied|UNAVAILABLE)'):
      checkpoints.restore(state(eight_devices))
  assert folders(tmp_path) == ['3', '6']


def test_a_disk_without_room_is_noticed_before_the_first_update(eight_devices, tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path / 'run')
  checkpoints.prepare(state(eight_devices))
  usage = collections.namedtuple('usage', 'total used free')
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(100, 90, 10))
  with pytest.raises(CheckpointError, match=r'run: a checkpoint takes .* GB, and 1e-08 GB are free\. Make room'):
    checkpoints.prepare(state(eight_devices))


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(CheckpointError, match=r'file/run cannot be used for checkpoints: .*Not a directory.*--workdir'):
    Checkpoints(tmp_path / 'file' / 'run')


@pytest.mark.parametrize(
  ('other', 'names'),
  [({'rows': 24}, r'params/kernel \(16, 2\) → \(24, 2\)'), ({'extra': True}, r'params/bias absent → \(8,\)')],
)
def test_another_model_is_a_clear_error(eight_devices, tmp_path, other, names):
  save(tmp_path / 'run', at(state(eight_devices), 1))
  save_params(tmp_path / 'params', state(eight_devices).params)
  like = state(eight_devices, **other)
  with pytest.raises(ValueError, match=rf'run: the checkpoint does not fit this model .*{names}.* another --workdir'):
    Checkpoints(tmp_path / 'run').restore(like)
  with pytest.raises(ValueError, match=rf'params: the checkpoint does not fit this model .*{names.split("/")[1]}'):
    load_params(tmp_path / 'params', like.params)


def test_parameters_alone(eight_devices, one_device, tmp_path):
  for fill in (1.0, 2.0):
    save_params(tmp_path / 'params', state(eight_devices, fill=fill).params)
  for mesh in (eight_devices, one_device):
    assert_same(load_params(tmp_path / 'params', state(mesh).params), state(mesh, fill=2.0).params)


def test_no_parameters_say_how_to_make_them(eight_devices, tmp_path):
  with pytest.raises(FileNotFoundError, match=r'params: no parameters here\. Train first'):
    load_params(tmp_path / 'params', state(eight_devices).params)
