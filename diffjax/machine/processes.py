"""One run of several processes: how they find each other, and how all of them end when one does.

JAX's own runtime joins them. On Slurm (srun) and on the hosts of a Cloud TPU slice it knows the others by
itself; elsewhere the flags name them:

    main.py ... --coordinator=HOST:PORT --processes=2 --process=0       # and on the other host --process=1

A process that is gone is noticed after HEARTBEAT seconds at most, and then JAX's runtime aborts the others, with
a stack trace and wherever they are. So the work is done in a child process, and its parent, which does
nothing else, says in one paragraph how it ended.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from diffjax.machine.byproducts import to_stderr
from diffjax.types import ConfigError

HEARTBEAT = 30  # seconds
HIGHEST_PORT = 65535
JOIN = 120  # seconds in which all processes must have started, where --join says nothing else
CHILD = "DIFFJAX_CHILD"


def several(coordinator: str | None, processes: int | None, process: int | None) -> bool:
  """Whether this is one of several processes, or a host of a slice that may have several.

  Raises:
    ConfigError: the three flags do not fit each other.
  """
  flags = {"coordinator": coordinator, "processes": processes, "process": process}
  missing = [name for name, value in flags.items() if value is None]
  if 0 < len(missing) < 3:
    raise ConfigError(
      f"--{missing[0]} is not given; processes that are named by flags need all of --coordinator=HOST:PORT, "
      "--processes=N and --process=I."
    )
  if not missing:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= HIGHEST_PORT:
      raise ConfigError(f"--coordinator={coordinator} is no HOST:PORT, with a port from 1 to {HIGHEST_PORT}.")
    if processes < 1:
      raise ConfigError(f"--processes={processes}; it must be at least 1.")
    if not 0 <= process < processes:
      raise ConfigError(f"--process={process} of --processes={processes}; it must be 0 to {processes - 1}.")
    return processes > 1
  if "SLURM_STEP_NODELIST" in os.environ:  # srun's, and not in a batch script itself
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1
  tpu = os.environ.get("JAX_PLATFORMS", "tpu").startswith("tpu") and importlib.util.find_spec("libtpu")
  return bool(tpu)


def local_devices(environment: Mapping[str, str]) -> list[int] | None:
  """jax.distributed.initialize's local_device_ids: [] for all GPUs of the node, None for JAX's own rule.

  That rule gives a Slurm task the one GPU of its number in the node, which is right for a task for each GPU. A
  task that is alone in its node takes them all; of several, each takes the one.
  """
  nodes, tasks = (environment.get(f"SLURM_{name}") for name in ("STEP_NUM_NODES", "NTASKS"))
  return [] if nodes and nodes == tasks and "JAX_LOCAL_DEVICE_IDS" not in environment else None


def join(coordinator: str | None, processes: int | None, process: int | None, seconds: int = JOIN) -> None:
  """Joins the others; before anything asks JAX for devices.

  Raises:
    ConfigError: they do not all start within so many seconds, or nothing names them.
  """
  import jax

  if coordinator and process:
    to_stderr(f"waiting up to {seconds} seconds for process 0 at {coordinator}")
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      local_devices(os.environ),
      initialization_timeout=seconds,
      heartbeat_timeout_seconds=HEARTBEAT,
    )
  except RuntimeError as error:
    raise ConfigError(
      f"the processes of this run did not find each other within {seconds} seconds: "
      f"{str(error).splitlines()[0].rstrip('.')}. Start them together, or give all of them a longer --join=SECONDS."
    ) from None
  except ValueError as error:
    raise ConfigError(
      f"JAX does not find out which processes this run has: {str(error).rstrip('.')}. Give --coordinator=HOST:PORT, "
      "--processes=N and --process=I; or, where libtpu is installed but no TPU is there, set JAX_PLATFORMS to cpu "
      "or cuda."
    ) from None


def leave(status: int) -> None:
  """Ends this process at once, without waiting for others that may never come; its parent tells them apart."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def is_child() -> bool:
  """Whether a parent watches; if so this process ends with its parent."""
  pipe = os.environ.pop(CHILD, None)
  if pipe is None:
    return False

  def wait():
    os.read(int(pipe), 1)  # returns when the parent is gone
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
  return True


def watched(command: Sequence[str], seconds: int = JOIN) -> int:
  """Runs a command as the child, and says how it ended if it was no exit.

  SIGTERM and Ctrl-C are passed on as SIGTERM, the one signal after which JAX stops all processes; a second
  Ctrl-C ends this process and its child as usual. The child is deaf to Ctrl-C, which a terminal sends to both.

  Returns:
    Its exit status, or 1 where a signal ended it.
  """
  ours, theirs = os.pipe()
  os.set_inheritable(ours, True)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the child inherits
  child = subprocess.Popen(command, env=os.environ | {CHILD: str(ours)}, close_fds=False)
  os.close(ours)

  def stop(number, frame):
    if number == signal.SIGINT:
      signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    print(
      f"\n{name}: passed on; training saves after its next step, all else ends.", file=sys.stderr, flush=True
    )
    child.terminate()

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
  signal.set_wakeup_fd(-1)  # whoever listened by it would end this process, and with it the child
  status = child.wait()
  os.close(theirs)
  if status >= 0:
    return status
  name = signal.Signals(-status).name
  if -status == signal.SIGABRT:
    why = (
      f"another process of the run has ended, could not be reached for {HEARTBEAT} seconds or did not start within "
      f"{seconds} (--join), and JAX has ended this one; the log of the process that was first says why"
    )
  else:
    why = f"this process was ended by {name}" + (
      ", as the system does when memory runs out" if name == "SIGKILL" else ""
    )
  print(
    f"\nerror: {why}. The same commands on all hosts go on from the last checkpoint.",
    file=sys.stderr,
  )
  return 1
