"""The published weights of I3D: found, checked, and given to Flax.

They are an npz of the Kinetics-400 network that FVD uses, float32, under the names that i3d.I3D gives its layers: a
convolution's `conv.weight` [T, H, W, in, out], a batch normalisation's `bn.bias`, `bn.mean` and `bn.var`, and last
`logits.weight` and `logits.bias`. It is looked for where it is named, then in $DIFFJAX_I3D, then in the cache
(data/cache.py); nothing is fetched.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp

from diffjax.data import cache, npz
from diffjax.metrics.i3d import FEWEST, I3D
from diffjax.metrics.lpips import digest
from diffjax.types import ConfigError, Params

ENVIRONMENT = "DIFFJAX_I3D"
NAME = "i3d_kinetics400.npz"
PUBLISHED = "aaf80a8320dfbf1bc575c483dddc1359f9fe8f2f8d4c33557cbcab47423c619b"  # of the tensors
LEAVES = {"kernel": "weight"}  # Flax's names of tensors that have others in the file


def load(path: str = "") -> Params:
  """The variables of i3d.I3D.

  Raises:
    ConfigError: there is no such file, or it holds other tensors.
  """
  place = path or os.environ.get(ENVIRONMENT)
  file = Path(place or cache.folder() / NAME).expanduser()
  if not file.is_file():
    raise ConfigError(
      f"weights_file: I3D's weights are looked for in {file}, which is not there; put the npz there (metrics/"
      f"i3d_weights.py says what is in it), or name it, or name it by {ENVIRONMENT}."
    )
  tensors, _ = npz.read(file, what=f"weights_file: {file}")
  if (fingerprint := digest(tensors)) != PUBLISHED:
    raise ConfigError(
      f"weights_file: the tensors in {file} are not I3D's published ones (hash {fingerprint[:16]}, expected "
      f"{PUBLISHED[:16]}); name the right file."
    )
  return jax.tree_util.tree_map_with_path(lambda path, _: tensors[name_of(path)], shapes())


def shapes() -> Params:
  """Shapes of the variables."""
  clip = jax.ShapeDtypeStruct((1, FEWEST, 224, 224, 3), jnp.float32)
  return jax.eval_shape(I3D().init, jax.random.key(0), clip)


def name_of(path) -> str:
  """A variable's name in the file."""
  *modules, leaf = (part.key for part in path[1:])
  return ".".join([*modules, LEAVES.get(leaf, leaf)])
