"""A command line in a process that reads many."""

from absl import flags


def line(*arguments):
  """What main.py is given, its name first, with the flags as they are before."""
  flags.FLAGS.unparse_flags()
  for name in [name for name in flags.FLAGS if name.startswith("config.")]:
    delattr(flags.FLAGS, name)
  for name in ("config", "workdir", "mode", "out", "show", "images", "coordinator", "processes", "process"):
    flags.FLAGS[name].unparse()
  return ["main.py", *arguments]
