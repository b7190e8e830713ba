"""Checkpoints: the whole state, its checksums and the config together, by orbax, written in the background.

    <folder>/<step>/state     arrays
    <folder>/<step>/about     JSON: config, commit, packages, and a checksum of every array with its kind

An interrupted save leaves no checkpoint. A restored array whose checksum differs stops the run: orbax itself
returns a flipped byte without a word.
"""

import textwrap
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from diffjax.machine.state import CHECKSUM, TrainState, fingerprint
from diffjax.types import Params, RunError

LONGEST = 160  # characters of orbax's own words in a message; TensorStore adds pages to them


def _as_dict(state: TrainState) -> dict[str, Any]:
  memory = ("memory",) if jax.tree.leaves(state.memory) else ()
  return {name: getattr(state, name) for name in ("step", "params", "ema", "opt_state", "key", *memory)}


def _shortened(error: Exception) -> str:
  return f"{type(error).__name__}: {textwrap.shorten(str(error), LONGEST)}"


class Checkpoints:
  """The checkpoints of one folder; a context manager, which ends with every save finished."""

  def __init__(self, folder: Path, keep: int = 1, keep_every: int = 0):
    """Keeps the newest `keep`, and every one whose step `keep_every` divides (0: none)."""
    kept = [policy.LatestN(keep)] + ([policy.EveryNSteps(keep_every)] if keep_every else [])
    self._folder = Path(folder).absolute()
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy.AnyPreservationPolicy(kept), enable_async_checkpointing=True
      ),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
    try:
      self.wait()
    except RunError:
      if not error:  # else the first error is the one to tell
        raise
    else:
      self._manager.close()

  def steps(self) -> list[int]:
    """The steps that have a whole checkpoint, ascending."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """The newest of them."""
    return self._manager.latest_step()

  def save(self, state: TrainState, about: dict[str, Any]) -> None:
    """Saves the state as its own step's checkpoint; returns once the arrays are copied.

    Raises:
      RunError: the save before failed.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    checksums = {name: int(value) for name, value in jax.device_get(fingerprint(_as_dict(state))).items()}
    self.wait()
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_as_dict(state)),
        about=ocp.args.JsonSave(about | {"checksum": CHECKSUM, "checksums": checksums}),
      ),
      force=True,
    )

  def wait(self) -> None:
    """Waits until every save is on disk.

    Raises:
      RunError: one of them failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      last = f"goes on from step {self.latest()}" if self.steps() else "starts again"
      raise RunError(
        f"A checkpoint could not be saved in {self._folder} ({_shortened(error)}). When there is room, the same "
        f"command {last}."
      ) from error

  def restore(self, abstract: TrainState, step: int) -> TrainState:
    """The state of a step.

    Args:
      abstract: its shapes, types and shardings.
      step: one of `steps()`.

    Raises:
      RunError: the files are damaged, hold another model's state, or have checksums of another kind.
    """
    try:
      found = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(_as_dict(abstract)), about=ocp.args.JsonRestore()
        ),
      )
    except Exception as error:
      raise RunError(self._damaged(step, f"it cannot be read ({_shortened(error)})")) from error
    self._require_whole(step, found.state, found.about)
    return TrainState(**found.state)

  def restore_weights(self, abstract: Params, step: int, weights: str) -> Params:
    """The raw parameters of a step's state, or one of its averages; the rest of it is not read.

    Args:
      abstract: their shapes, types and shardings.
      step: one of `steps()`.
      weights: "raw", or the name of an average.

    Raises:
      RunError: as `restore`.
    """
    tree = {"params": abstract} if weights == "raw" else {"ema": {weights: abstract}}
    where = ocp.checkpoint_utils.construct_restore_args(tree)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
      found = reader.restore(
        self._folder / str(step) / "state",
        args=ocp.args.PyTreeRestore(item=tree, restore_args=where, partial_restore=True),
      )
      about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore())).about
    except Exception as error:
      raise RunError(
        self._damaged(step, f"its {weights} weights cannot be read ({_shortened(error)})")
      ) from error
    self._require_whole(step, found, about)
    return found["params"] if weights == "raw" else found["ema"][weights]

  def _require_whole(self, step: int, found: Any, about: dict[str, Any]) -> None:
    """Raises RunError if a restored array's checksum is another than when it was saved, or of another kind."""
    kind, commit = (about.get(name, "not named") for name in ("checksum", "commit"))
    if kind != CHECKSUM:
      raise RunError(
        f"The checkpoint {self._folder / str(step)} has checksums of another kind ({kind}) than this version's "
        f"({CHECKSUM}), so that it cannot be told whether it is whole. Go on with the version that saved it (commit "
        f"{commit}), or train anew in another workdir."
      )
    wanted, got = about["checksums"], jax.device_get(fingerprint(found))
    wrong = [name for name in got if wanted.get(name) != int(got[name])]
    if wrong:
      raise RunError(self._damaged(step, f"the bytes of {wrong[0]} are not those that were saved"))

  def _damaged(self, step: int, why: str) -> str:
    others = [other for other in self.steps() if other != step]
    last = f"continue from step {others[-1]}" if others else "start again"
    return f"The checkpoint {self._folder / str(step)} is damaged: {why}. Remove that folder to {last}."
