"""The cache of compiled functions mends itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import jax
from diffjax.machine import compiled

folder = Path(sys.argv[1])
compiled.keep(folder, 0.0)

@jax.jit
def added(x):
  return x + 1

added(1.0)
(entry,) = folder.glob("jit_added-*-cache")
whole = entry.read_bytes()
for _ in range(2):
  entry.write_bytes(whole[:100])
  jax.clear_caches()
  assert added(1.0) == 2.0
  assert len(entry.read_bytes()) > 100
"""


def test_a_damaged_entry_is_replaced_and_said_once(tmp_path):
  answer = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], cwd=ROOT, capture_output=True, text=True)
  assert answer.returncode == 0, answer.stderr
  assert (
    answer.stderr == f"warning: the cache of compiled functions {tmp_path} is damaged, and compiled anew\n"
  )
