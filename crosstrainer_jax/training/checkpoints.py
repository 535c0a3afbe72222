"""Checkpoints: parameters, optimiser, step, random key and the iterator's position, in one Orbax step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from crosstrainer_jax.training.optimizer import path_name
from crosstrainer_jax.training.step import TrainState


class Checkpoints:
  """A thin typed face over Orbax's CheckpointManager: the newest `keep` steps of one run."""

  def __init__(self, directory: str | Path, keep: int = 2):
    self.directory = Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
    handlers = {'state': ocp.StandardCheckpointHandler(), 'data': ocp.JsonCheckpointHandler()}
    self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

  def latest(self) -> int | None:
    return self._manager.latest_step()

  def save(self, state: TrainState, iterator: Mapping[str, Any]) -> None:
    """Begins an asynchronous save of step `state.step`; `iterator` is the JSON state of the data."""
    args = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), data=ocp.args.JsonSave(dict(iterator)))
    self._manager.save(int(state.step), args=args)

  def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The newest state, placed as `like` is placed, and the iterator's state.

    Raises:
      ValueError: `like` has other parameters, or parameters of another shape.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
    step = self.latest()
    _require_fit(self.directory, self._manager.item_metadata(step).state, abstract)
    restored = self._manager.restore(step, args=args)
    return TrainState(**restored.state), dict(restored.data)

  def close(self) -> None:
    self._manager.wait_until_finished()
    self._manager.close()


def save_params(directory: str | Path, params: Any) -> None:
  """Writes the final parameters of a stage, replacing what was there."""
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(Path(directory).absolute(), params, force=True)


def load_params(directory: str | Path, like: Any) -> Any:
  """Reads what `save_params` wrote, placed as `like`.

  Raises:
    FileNotFoundError, ValueError: nothing is there, or something else than `like`.
  """
  path = Path(directory).absolute()
  if not path.exists():
    raise FileNotFoundError(f'{path}: no parameters here. Train first: ./launch_tpu.sh configs/cross_sport.py')
  with ocp.StandardCheckpointer() as checkpointer:
    _require_fit(path, checkpointer.metadata(path).item_metadata.tree, like)
    return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def _require_fit(path: Path, saved: Any, like: Any) -> None:
  there, wanted = _shapes(saved), _shapes(like)
  different = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
  if different:
    listed = ', '.join(f'{name} {there.get(name, "absent")} → {wanted.get(name, "absent")}' for name in different[:5])
    raise ValueError(
      f'{path}: the checkpoint does not fit this model ({len(different)} parameters differ: {listed}). '
      'Was the config changed? Use another --workdir, or delete this folder.'
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
