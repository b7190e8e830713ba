"""A command line in a process that reads many."""

from absl import flags

from diffjax.jobs import commandline


def line(*arguments):
  """What main.py is given, its name first, with the flags as they are before."""
  flags.FLAGS.unparse_flags()
  for name in [name for name in flags.FLAGS if name.startswith("config.")]:
    delattr(flags.FLAGS, name)
  for name in set(commandline.own()) - {"help"}:
    flags.FLAGS[name].unparse()
  return ["main.py", *arguments]
