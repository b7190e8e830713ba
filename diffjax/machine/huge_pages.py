"""Huge pages for large allocations, which glibc must be told before a process starts.

XLA's CPU client allocates what a step needs anew in every step and gives it back, and where the system's huge pages
are for those that ask ("madvise") it is zeroed and mapped 4 KiB at a time: a fifth of the time of a step. glibc from
2.35 on asks for huge pages where the environment says so. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 leaves all as it is.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
SINCE = (2, 35)


def _glibc() -> tuple[int, ...]:
  """The version of the C library; () where it is another's."""
  name = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
  return tuple(map(int, (name or "").removeprefix("glibc ").split("."))) if name else ()


def asking(environment: Mapping[str, str], enabled: Path = ENABLED) -> dict[str, str]:
  """The variable that turns huge pages on; {} where the environment sets it, or the system has no such choice."""
  try:
    madvised = "[madvise]" in enabled.read_text()
  except OSError:  # another system's kernel
    madvised = False
  tunables = environment.get(VARIABLE, "")
  if not madvised or TUNABLE in tunables or _glibc() < SINCE:
    return {}
  return {VARIABLE: ":".join(filter(None, (tunables, f"{TUNABLE}=1")))}


def ask() -> None:
  """Executes this process's command once more, with huge pages, where they help; to be called before any work."""
  if (lacking := asking(os.environ)) and sys.executable:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | lacking)
