"""Checkpoints: what trains, optimiser, step, random key, the iterator's position and the time taken, in one Orbax step.

Saves are asynchronous and atomic: a step is written beside the others and renamed at its end. What is frozen is not in
them; they name it by its fingerprint.
"""

import errno
import functools
import json
import logging
import shutil
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from crosstrainer_jax.training.checksums import checksums, require_same
from crosstrainer_jax.training.optimizer import path_name
from crosstrainer_jax.training.step import TrainState
from crosstrainer_jax.training.telemetry import is_first_process, say

# Of a storage that does not answer or has no room: no reason to think that what lies there is damaged.
_STORAGE = ('PERMISSION_DENIED', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'DEADLINE_EXCEEDED', 'UNAUTHENTICATED')


class CheckpointError(OSError):
  """A checkpoint cannot be written or read: the message says what, where, and what mends it."""


class MisfitError(ValueError):
  """The checkpoint is of another model."""


class Restored(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    step: its number, the updates that were made.
    state: placed as the state that asked for it.
    iterator: JSON state of the data.
    seconds: the time ledger's totals when it was saved.
  """

  step: int
  state: TrainState
  iterator: dict[str, Any]
  seconds: dict[str, float]


class Checkpoints:
  """A thin typed face over Orbax's CheckpointManager, for the steps of one stage.

  Args:
    directory: a folder of its own, which may be on a bucket (`gs://…`).
    keep: of the newest steps so many stay; with 2 there is one to go back to if the newest cannot be read.
    keep_every: every step that is a multiple of this stays as well; 0 for none.
    base: fingerprints by name of what the model is built on and the checkpoint does not hold, a frozen decoder for
      example.

  The step with the lowest loss stays too, as far as steps are saved with a loss.

  Raises:
    CheckpointError: the folder cannot be made.
  """

  def __init__(
    self, directory: epath.PathLike, keep: int = 2, keep_every: int = 0, base: Mapping[str, str] | None = None
  ):
    self.directory = _absolute(directory)
    self._base = dict(base or {})
    policies: list[Any] = [checkpoint_managers.LatestN(keep), _Best()]
    if keep_every:
      policies.append(checkpoint_managers.EveryNSteps(keep_every))
    options = functools.partial(
      ocp.CheckpointManagerOptions,
      create=True,
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
      # Made at once: where one cannot be made, Orbax would wait five minutes for it.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
      # Metrics are written where there is such a function; the policy above decides.
      best_fn=_loss,
      best_mode='min',
    )
    logging.getLogger('absl').addFilter(_is_not_of_orbax)
    handlers = {'state': ocp.StandardCheckpointHandler(), 'data': ocp.JsonCheckpointHandler()}
    manager = functools.partial(ocp.CheckpointManager, self.directory, item_handlers=handlers)
    try:
      try:
        self._manager = manager(options=options())
      except ValueError:  # the loss of a damaged step, which is not to stand in the way of the others
        self._manager = manager(options=options(lightweight_initialize=True))
    except OSError as error:
      raise CheckpointError(
        f'{self.directory} cannot be used for checkpoints: {_first_line(error)}. {_REMEDY}'
      ) from error

  def latest(self) -> int | None:
    """The newest step."""
    step: int | None = self._manager.latest_step()
    return step

  def best_loss(self) -> float:
    """The lowest loss that a step was saved with; infinity where there is none."""
    step = self._manager.best_step()
    try:
      return float('inf') if step is None else _loss(self._manager.metrics(step))
    except (OSError, ValueError):  # the loss of a damaged step
      return float('inf')

  def prepare(self, state: TrainState) -> None:
    """Tries whether `state` could be saved here, before hours are spent on it.

    Raises:
      CheckpointError: the folder cannot be written to, or the disk has no room for one more checkpoint.
    """
    if not is_first_process():
      return
    probe = self.directory / '.writable'
    try:
      probe.write_text('')
      probe.unlink()
      if '://' in str(self.directory):
        return
      needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
      free = shutil.disk_usage(self.directory).free
    except OSError as error:
      raise CheckpointError(f'{self.directory} cannot be written to: {_first_line(error)}. {_REMEDY}') from error
    if free < needed:
      raise CheckpointError(
        f'{self.directory}: a checkpoint takes {_gigabytes(needed)}, and {_gigabytes(free)} are free. {_REMEDY}'
      )

  def save(
    self,
    step: int,
    state: TrainState,
    iterator: Mapping[str, Any],
    seconds: Mapping[str, float] | None = None,
    loss: float | None = None,
  ) -> None:
    """Begins an asynchronous save of `state` after `step` updates, once an earlier one has ended.

    Args:
      iterator: JSON state of the data.
      seconds: the time ledger's totals.
      loss: on validation clips, where that is known.

    Raises:
      CheckpointError: this save or the one before it failed; earlier steps are as they were.
    """
    args = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), data=ocp.args.JsonSave(dict(iterator)))
    # Always given, as Orbax complains where it is not.
    metrics = {'loss': None if loss is None else float(loss)}
    notes: dict[str, Any] = {'seconds': dict(seconds or {}), 'base': self._base}
    notes |= {'iterator': dict(iterator), 'checksums': checksums(state._asdict())}
    notes['checksum'] = _checksum(notes)
    try:
      self._manager.save(step, args=args, metrics=metrics, custom_metadata=notes, force=True)
    except Exception as error:  # the libraries below raise many kinds, and each means that nothing was saved
      raise self._failure(error) from error

  def wait(self) -> None:
    """Until the save that was begun has ended.

    Raises:
      CheckpointError: it failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failure(error) from error

  def _failure(self, error: Exception) -> CheckpointError:
    try:
      self._manager.reload()
      good = self.latest()
      kept = 'there is no earlier one' if good is None else f'the last good one is that of update {good}'
    except Exception as other:
      kept = f'nor could the earlier ones be listed ({_first_line(other)})'
    room = '' if '://' in str(self.directory) else f', {_gigabytes(shutil.disk_usage(self.directory).free)} are free'
    return CheckpointError(
      f'{self.directory}: a checkpoint could not be written ({_first_line(error)}{room}); {kept}. {_REMEDY}'
    )

  def restore(self, like: TrainState) -> Restored | None:
    """The newest step that can be read, None where there is no step.

    Newer ones that are damaged are put aside, as `damaged-<step>`, with a printed line.

    Args:
      like: a state of the same shapes in the same places. Where there is a step it is freed before that is read, so
        that there is never memory for two.

    Raises:
      MisfitError: it is of another model, or of one with another base.
      CheckpointError: no step can be read, or the storage does not answer.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    damaged: dict[int, str] = {}
    steps = sorted(self._manager.all_steps(), reverse=True)
    if steps:
      jax.tree.map(lambda leaf: leaf.delete(), like)
    for step in steps:
      restored, reason = None, 'another process could not read it'
      try:
        restored = self._read(step, abstract)
      except MisfitError:
        raise
      except Exception as error:
        _silence_given_up_reads()
        reason = _first_line(error)
        if not _is_damage(error):
          raise CheckpointError(f'{self.directory / str(step)} cannot be read: {reason}') from error
      if _everywhere(restored is not None):
        assert restored is not None
        self._put_aside(damaged)
        return restored
      damaged[step] = reason
    if damaged:
      listed = '; '.join(f'{step}: {reason}' for step, reason in damaged.items())
      raise CheckpointError(
        f'{self.directory}: none of its checkpoints can be read ({listed}). '
        'To begin this stage again, move that folder away.'
      )
    return None

  def _read(self, step: int, abstract: dict[str, Any]) -> Restored:
    metadata = self._manager.metadata(step)
    notes = dict(metadata.custom_metadata or {})
    checksum = notes.pop('checksum', None)  # earlier versions recorded none
    if checksum is not None and checksum != _checksum(notes):
      raise ValueError('its checksums say that bits have flipped, in its description')
    base = notes.get('base', {})
    for name in sorted({*base, *self._base} if base else ()):
      if base.get(name) != self._base.get(name):
        raise MisfitError(
          f'{self.directory}: the checkpoint was trained on another {name} '
          f'({base.get(name, "none")}, now {self._base.get(name, "none")}). Give it that one again, or choose another '
          '--workdir.'
        )
    if metadata.item_metadata.state is None:
      raise ValueError('its description is missing')
    _require_fit(self.directory, metadata.item_metadata.state, abstract)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
    found = self._manager.restore(step, args=args)
    if checksum is not None:
      require_same(found.state, notes['checksums'])
      if found.data != notes['iterator']:
        raise ValueError(f'the position in the data is {found.data}, but {notes["iterator"]} was saved')
    return Restored(step, TrainState(**found.state), dict(found.data), dict(notes.get('seconds', {})))

  def _put_aside(self, damaged: Mapping[int, str]) -> None:
    for step, reason in damaged.items():
      path, aside = self.directory / str(step), self.directory / f'damaged-{step}'
      say(f'  {path} cannot be read ({reason}): kept as {aside.name}, and the one before it is taken')
      if is_first_process():
        if aside.exists():
          aside.rmtree()
        path.rename(aside)
    if damaged:
      _everywhere(True)
      self._manager.reload()

  def close(self) -> None:
    """Ends what was begun.

    Raises:
      CheckpointError: the last save failed.
    """
    self.wait()
    self._manager.close()


_REMEDY = 'Make room there or choose another --workdir; the same command goes on from what is saved.'


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
  """Orbax logs what it raises as well, with its stack: what matters of that is said by this file's errors."""
  return 'orbax' not in record.pathname


@functools.cache
def _silence_given_up_reads() -> None:
  """Of what Orbax was reading still when a read failed nobody wants to hear: each would print a stack, at any time."""
  before = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if '_read_array_index' in repr(unraisable.object) or 'Event loop is closed' in str(unraisable.exc_value):
      return
    before(unraisable)

  sys.unraisablehook = hook


def _checksum(notes: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(notes, sort_keys=True).encode())


def _loss(metrics: Mapping[str, float | None] | None) -> float:
  """The loss that a step was saved with, infinity where there was none."""
  loss = metrics.get('loss') if metrics else None
  return float('inf') if loss is None else loss


class _Best(checkpoint_managers.PreservationPolicy):
  """Keeps the step with the lowest loss, of those that have one: Orbax's own policy keeps one in any case."""

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
    del context
    losses = [_loss(checkpoint.metrics) for checkpoint in checkpoints]
    return [loss == min(losses) < float('inf') for loss in losses]


def _is_damage(error: Exception) -> bool:
  """Whether a step that could not be read is itself at fault."""
  if isinstance(error, MemoryError):
    return False
  if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
    return error.errno is None or error.errno not in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM)
  return not any(word in str(error) for word in _STORAGE)


def _everywhere(here: bool) -> bool:
  """Whether `here` is true in every process, which all of them must ask."""
  return here if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(here)).all())


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), '')[:200] or type(error).__name__


def _gigabytes(size: float) -> str:
  return f'{size / 1e9:.2g} GB'


def _absolute(directory: epath.PathLike) -> epath.Path:
  """As Orbax wants it; a bucket's name is absolute."""
  return epath.Path(directory) if '://' in str(directory) else epath.Path(Path(directory).absolute())


def save_params(directory: epath.PathLike, params: Any) -> dict[str, int]:
  """Writes the final parameters of a stage, replacing what was there, and returns their checksums."""
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(_absolute(directory), params, force=True)
  return checksums(params)


def load_params(directory: epath.PathLike, like: Any, recorded: Mapping[str, int] | None = None) -> Any:
  """Reads what `save_params` wrote, placed as `like`.

  Args:
    recorded: the checksums, which are compared unless `like` is of other types.

  Raises:
    FileNotFoundError, ValueError: nothing is there, or something else than `like` or than was written.
  """
  path = _absolute(directory)
  if not path.exists():
    raise FileNotFoundError(f'{path}: no parameters here. Train first: ./launch_tpu.sh configs/cross_sport.py')
  with ocp.StandardCheckpointer() as checkpointer:
    saved = checkpointer.metadata(path).item_metadata.tree
    _require_fit(path, saved, like)
    params = checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
  if recorded is not None and [leaf.dtype for leaf in jax.tree.leaves(saved)] == [
    leaf.dtype for leaf in jax.tree.leaves(like)
  ]:
    try:
      require_same(params, recorded)
    except ValueError as error:
      raise CheckpointError(
        f'{path} is not what was written: {error}. Delete done.json beside it, and the command that trained it makes '
        'it again, from the last checkpoint'
      ) from error
  return params


def _require_fit(path: epath.PathLike, saved: Any, like: Any) -> None:
  there, wanted = _shapes(saved), _shapes(like)
  different = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
  if different:
    listed = ', '.join(f'{name} {there.get(name, "absent")} → {wanted.get(name, "absent")}' for name in different[:5])
    raise MisfitError(
      f'{path}: the checkpoint does not fit this model ({len(different)} parameters differ: {listed}). '
      'Was the config changed? Use another --workdir, or delete this folder.'
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
