"""What JAX has compiled, kept between runs.

JAX compiles what it cannot read anew at every start and never replaces it. Here such an entry is removed when JAX
says so, which is before it writes the new one. That the folder cannot be written to is said once.
"""

import contextlib
import glob
import re
import warnings
from pathlib import Path

import jax

from diffjax.machine.byproducts import to_stderr

FAILED = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)'")


def keep(folder: Path, seconds: float) -> None:
  """Keeps in a folder, from now on, what takes at least so many seconds to compile."""
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
  show, kinds = warnings.showwarning, set()

  def hear(message, *where, **how):
    match = FAILED.match(str(message))
    if not match:
      return show(message, *where, **how)
    if match[1] == "reading":
      for path in folder.glob(f"{glob.escape(match[2])}-*"):
        with contextlib.suppress(OSError):
          path.unlink()
    if match[1] not in kinds:
      kinds.add(match[1])
      what = "damaged, and compiled anew" if match[1] == "reading" else "not writable, and left as it is"
      to_stderr(f"warning: the cache of compiled functions {folder} is {what}")

  warnings.showwarning = hear
  warnings.filterwarnings("always", FAILED.pattern)  # Python would show the same text once
