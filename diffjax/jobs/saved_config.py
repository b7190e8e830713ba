"""The config of a run that a workdir holds, as a config file: --config=.../saved_config.py:WORKDIR."""

from pathlib import Path

from ml_collections import ConfigDict

from diffjax.jobs import workdir


def get_config(folder: str) -> ConfigDict:
  """The resolved config in <folder>/config.json."""
  return workdir.load(Path(folder))
