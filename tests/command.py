"""A command line in a process that reads many."""

import contextlib
import sys

from absl import flags


@contextlib.contextmanager
def line(*arguments):
  """What main.py is given: yields the program's arguments, its name first."""
  argv = ["main.py", *arguments]
  flags.FLAGS.unparse_flags()
  for name in [name for name in flags.FLAGS if name.startswith("config.")]:
    delattr(flags.FLAGS, name)
  for name in ("config", "workdir", "mode", "out", "show", "images", "coordinator", "processes", "process"):
    flags.FLAGS[name].unparse()
  before, sys.argv = sys.argv, argv  # ml_collections looks for overrides here
  try:
    yield argv
  finally:
    sys.argv = before
