"""Checkpoints: the whole state, its checksums and the config together, by orbax, written in the background.

    <folder>/<step>/state     arrays
    <folder>/<step>/about     JSON: step, config, commit, packages, and of every array type, shape and checksum

An interrupted save leaves no checkpoint. A restored array whose checksum differs stops the run: orbax itself
returns a flipped byte without a word. What cannot be used is one of four things, each with its own remedy: damaged,
another step's, another model's, or removed while it was read.
"""

import functools
import hashlib
import inspect
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from diffjax.machine import disk
from diffjax.machine.state import CHECKSUM, TrainState, fingerprint
from diffjax.types import ConfigError, Params, RunError

DIGEST = "digest"  # of all else in `about`
REMOVAL = 2.0  # seconds that a run takes to remove an old checkpoint
NAMED = 3  # arrays in a message


def _as_dict(state: TrainState) -> dict[str, Any]:
  memory = ("memory",) if jax.tree.leaves(state.memory) else ()
  return {name: getattr(state, name) for name in ("step", "params", "ema", "opt_state", "key", *memory)}


def _arrays(tree: Any) -> dict[str, str]:
  """Type and shape of every leaf, "float32[3, 4]", by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _digest(about: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def bytes_of(state: TrainState) -> int:
  """What a state's checkpoint takes on a disk, at most."""
  width = lambda leaf: getattr(leaf.dtype, "itemsize", 8)
  return sum(math.prod(leaf.shape) * width(leaf) for leaf in jax.tree.leaves(_as_dict(state)))


def _why(error: BaseException) -> str:
  """The file system's reason, if that is behind an error of orbax, else its type: its text explains nothing."""
  cause = error
  while cause is not None:
    if isinstance(cause, OSError):
      return disk.reason(cause)
    cause = cause.__cause__ or cause.__context__
  return "there is no space left" if "No space left" in str(error) else type(error).__name__


@functools.cache
def _mute() -> None:
  """Silences the reads that orbax leaves running in a closed event loop when another read fails.

  TensorStore, Python and asyncio would each print a traceback for each of them, then or at the process's end.
  """
  closed = lambda error: isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
  log, raised, unraisable = logging.getLogger("asyncio"), sys.excepthook, sys.unraisablehook
  sys.excepthook = lambda kind, error, trace: None if closed(error) else raised(kind, error, trace)
  harmless = lambda about: closed(about.exc_value) or inspect.iscoroutine(about.object)
  sys.unraisablehook = lambda about: None if harmless(about) else unraisable(about)
  log.addFilter(lambda record: not record.getMessage().startswith(("Future exception", "Task")))


class Checkpoints:
  """The checkpoints of one folder; a context manager, which ends with every save finished."""

  def __init__(self, folder: Path, keep: int = 1, keep_every: int = 0):
    """Keeps the newest `keep`, and every one whose step `keep_every` divides (0: none).

    Raises:
      ConfigError: there is a file in the folder's place.
    """
    policies = [policy.LatestN(keep)] + ([policy.EveryNSteps(keep_every)] if keep_every else [])
    self._folder, self._keep = Path(folder).absolute(), keep
    disk.require_folder(self._folder, f"The folder of checkpoints {self._folder}", writes=False)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy.AnyPreservationPolicy(policies), enable_async_checkpointing=True
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
    """The steps that have a checkpoint, ascending."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """The newest step that has a checkpoint; None without one."""
    return self._manager.latest_step()

  def about(self, step: int) -> dict[str, Any]:
    """What a step's checkpoint says of itself.

    Raises:
      RunError: its parts are not all there, or it is of another step.
    """
    self.wait()
    folder = self._folder / str(step)
    for part in ("state", "about"):
      if not (folder / part).is_dir():
        raise self._unreadable(step, f"it has no {part}")
    try:
      about = json.loads((folder / "about" / "metadata").read_text())
      digest, own = about.pop(DIGEST, None), about.get("step", step)
    except (OSError, ValueError, AttributeError):
      raise self._unreadable(step, "what it says of itself cannot be read") from None
    if digest is not None and digest != _digest(about):
      raise self._unreadable(step, "what it says of itself is not what was saved")
    if own != step:
      raise RunError(
        f"The folder {folder} holds the checkpoint of step {own}: somebody gave it another name. Call it {own} again, "
        "or move it out of the workdir."
      )
    return about

  def require_room(self, state: TrainState, free: int) -> None:
    """Raises ConfigError where `free` bytes are too few for the checkpoints to come; see also `keep`."""
    each = bytes_of(state)
    needed = each * max(1, self._keep + 1 - len(self.steps()))  # the oldest goes once the newest is whole
    if free < needed:
      raise ConfigError(
        f"{self._folder} needs room for {disk.size(needed)} of checkpoints ({disk.size(each)} each, "
        f"config.checkpoint.keep = {self._keep} and the one that is being written), and {disk.size(free)} are free. "
        "Make room, name a --workdir on another disk, or lower config.checkpoint.keep."
      )

  def save(self, state: TrainState, about: dict[str, Any]) -> None:
    """Saves the state as its own step's checkpoint; returns once the arrays are copied.

    Raises:
      RunError: the save before failed.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    checksums = {name: int(value) for name, value in jax.device_get(fingerprint(_as_dict(state))).items()}
    about = json.loads(json.dumps(about))  # as it will be read
    about |= {"step": step, "arrays": _arrays(_as_dict(state)), "checksum": CHECKSUM, "checksums": checksums}
    self.wait()
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_as_dict(state)),
        about=ocp.args.JsonSave(about | {DIGEST: _digest(about)}),
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
        f"A checkpoint could not be saved in {self._folder} ({_why(error)}; {disk.size(disk.free(self._folder))} are "
        f"free there). When there is room, the same command {last}."
      ) from error

  def restore(self, abstract: TrainState, step: int) -> TrainState:
    """The state of a step.

    Args:
      abstract: its shapes, types and shardings.
      step: one of `steps()`.

    Raises:
      RunError: the files are damaged, hold another model's state, or have checksums of another kind.
    """
    about, target = self.about(step), _as_dict(abstract)
    self._require_model(step, about, target)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    arrays = self._read(step, "it", lambda: self._manager.restore(step, args=args)).state
    self._require_whole(step, arrays, about)
    return TrainState(**arrays)

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
    about = self.about(step)
    self._require_model(step, about, tree)
    where = ocp.checkpoint_utils.construct_restore_args(tree)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    args = ocp.args.PyTreeRestore(item=tree, restore_args=where, partial_restore=True)
    place = self._folder / str(step) / "state"
    arrays = self._read(step, f"its {weights} weights", lambda: reader.restore(place, args=args))
    self._require_whole(step, arrays, about)
    return arrays["params"] if weights == "raw" else arrays["ema"][weights]

  def _read(self, step: int, what: str, read: Callable[[], Any]) -> Any:
    """What orbax reads."""
    try:
      return read()
    except Exception as error:
      _mute()
      raise self._unreadable(step, f"{what} cannot be read ({_why(error)})") from None

  def _require_model(self, step: int, about: dict[str, Any], target: Any) -> None:
    """Raises RunError if a checkpoint's arrays differ from the target's, in those parts of the state that it names."""
    here, there = _arrays(target), about.get("arrays", {})
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(target)]
    roots = {jax.tree_util.keystr(path[: 1 + (path[0].key == "ema")]) for path in paths}
    there = {name: kind for name, kind in there.items() if name.startswith(tuple(roots))}
    names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    if not names or "arrays" not in about:
      return
    listed = "; ".join(
      f"{name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} here"
      for name in names[:NAMED]
    )
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    raise RunError(
      f"The checkpoint {self._folder / str(step)} is whole, but of another model than the code and config.json make "
      f"now: {listed}{more}. Go on with the code that saved it (commit {about.get('commit') or 'not named'}), or train "
      "in another workdir."
    )

  def _require_whole(self, step: int, arrays: Any, about: dict[str, Any]) -> None:
    """Raises RunError if a restored array's checksum is another than when it was saved, or of another kind."""
    kind, commit = (about.get(name, "not named") for name in ("checksum", "commit"))
    if kind != CHECKSUM:
      raise RunError(
        f"The checkpoint {self._folder / str(step)} has checksums of another kind ({kind}) than this version's "
        f"({CHECKSUM}), so that it cannot be told whether it is whole. Go on with the version that saved it (commit "
        f"{commit}), or train anew in another workdir."
      )
    expected, actual = about["checksums"], jax.device_get(fingerprint(arrays))
    wrong = [name for name in actual if expected.get(name) != int(actual[name])]
    if wrong:
      raise self._unreadable(step, f"the bytes of {wrong[0]} are not those that were saved")

  def _unreadable(self, step: int, why: str) -> RunError:
    """The error of a checkpoint that is damaged, or that a run which trains there removed while it was read."""
    folder = self._folder / str(step)
    began = time.monotonic()
    while folder.exists() and time.monotonic() - began < REMOVAL * any(s > step for s in self._there()):
      time.sleep(0.1)
    if not folder.exists():
      return RunError(
        f"The checkpoint {folder} was removed while it was read, as a run that trains there does with all but the "
        "newest ones (config.checkpoint.keep, keep_every). The same command takes the newest that is there now."
      )
    others = [other for other in self.steps() if other != step]
    last = f"go on from step {others[-1]}" if others else "start again"
    return RunError(
      f"The checkpoint {folder} is damaged: {why}. Bring it back from a copy, or move it out of the workdir to "
      f"{last}."
    )

  def _there(self) -> list[int]:
    """The steps that have a folder now; `steps` are those of when this was opened."""
    return [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]
