"""The published weights of FID's Inception network: found or fetched, checked, and given to Flax.

    weights = load()          # or load("file.npz"), load("file.pth")
    weights.variables         # for inception.extractor
    weights.digest            # stands beside every number that comes from them

They are looked for in this order: the file given, $DIFFJAX_INCEPTION, the cache folder (data/cache.py), and
last the release of pytorch-fid, from which they are fetched into the cache. Files from elsewhere are read
without executing anything in them. Their digest is the SHA-256 over the sorted names and float32 bytes of
the 470 tensors up to pool3, as pytorch-fid names and shapes them, so that it does not depend on the kind
of file.
"""

import dataclasses
import functools
import hashlib
import os
import urllib.request
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.data import cache, npz
from diffjax.machine.byproducts import to_stderr
from diffjax.metrics import torch_file
from diffjax.metrics.inception import SIZE, Inception
from diffjax.types import ConfigError, Params

ENVIRONMENT = "DIFFJAX_INCEPTION"
NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NPZ = "inception_v3_fid_2015-12-05.npz"
PUBLISHED = "c9ce7f36d5ee9536ecde7e5b5b679a59d152a85abff7981e0d6c0e5d706e3557"  # digest of the tensors
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
  """Weights as the network takes them.

  Attributes:
    variables: {"params", "batch_stats"} of inception.Inception, with the class layer where the file has it.
    digest: hexadecimal SHA-256 of the tensors up to pool3.
    path: the file they came from.
  """

  variables: Params
  digest: str
  path: Path

  @property
  def published(self) -> bool:
    """Whether these are the weights that FID is defined with."""
    return self.digest == PUBLISHED


def load(path: str | Path | None = None) -> Weights:
  """The weights of a file, or of wherever they are found; see the module's docstring.

  Args:
    path: an npz of tensors under pytorch-fid's names, or the .pth file of pytorch-fid.

  Raises:
    ConfigError: the file is missing, broken, refused, or holds another network; weights from the cache or
      the release are not the published ones; or nothing could be fetched.
  """
  path, trusted = locate(path)
  tensors = read(path)
  weights = Weights(to_variables(tensors, str(path)), digest(tensors), path)
  if not (trusted or weights.published):
    raise ConfigError(
      f"the weights in {path} are not FID's published ones (digest {weights.digest[:16]}, expected "
      f"{PUBLISHED[:16]}). Delete the file so that it is fetched again, or name it by {ENVIRONMENT} if you "
      "mean these weights."
    )
  return weights


def locate(path: str | Path | None = None) -> tuple[Path, bool]:
  """The file to read, fetched if need be, and whether it was named by the user."""
  file = path or os.environ.get(ENVIRONMENT)
  if file:
    file = Path(file).expanduser()
    if not file.is_file():
      what = "the Inception weights file" if path else ENVIRONMENT
      raise ConfigError(f"{what} is {file}, which is not there.")
    return file, True
  for name in (NPZ, NAME):
    cached = cache.folder() / name
    if cached.is_file():
      return cached, False
  return fetch(URL, cache.folder() / NAME, SHA256), False


def fetch(url: str, path: Path, sha256: str) -> Path:
  """Downloads a file; a reader sees the whole file with the right hash or none. Progress goes to stderr.

  Raises:
    ConfigError: the file cannot be fetched or its SHA-256 differs.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with temporary.open("wb") as file:
      checksum = _download(url, file)
      file.flush()
      os.fsync(file.fileno())
    if checksum != sha256:
      raise ConfigError(
        f"what came from {url} has the SHA-256 {checksum[:16]}..., not {sha256[:16]}...; it is incomplete or "
        "another file, and was thrown away."
      )
    temporary.replace(path)
  except (OSError, ValueError) as error:
    if isinstance(error, ConfigError):
      raise
    raise ConfigError(
      f"the Inception weights could not be fetched from {url} ({error}). Put that file at {path}, or name "
      f"one by {ENVIRONMENT}."
    ) from None
  finally:
    temporary.unlink(missing_ok=True)
  return path


def _download(url: str, file) -> str:
  """Copies a URL into an open file; returns its SHA-256."""
  sha, size, previous = hashlib.sha256(), 0, -1
  with urllib.request.urlopen(url, timeout=60) as response:
    total = int(response.headers.get("Content-Length") or 0)
    while chunk := response.read(CHUNK):
      file.write(chunk)
      sha.update(chunk)
      size += len(chunk)
      tenth = 10 * size // total if total else size // (10 * CHUNK)
      if tenth != previous:
        of = f" of {total / 1e6:.1f}" if total else ""
        to_stderr(f"fetching {url.rsplit('/', 1)[-1]}: {size / 1e6:.1f}{of} MB")
        previous = tenth
  return sha.hexdigest()


def read(path: str | Path) -> dict[str, np.ndarray]:
  """The tensors of an .npz or .pth file by name; raises ConfigError where it is neither."""
  path = Path(path)
  if not path.is_file():
    raise ConfigError(f"the weights file {path} is not there.")
  if path.suffix != ".npz":
    return torch_file.read(path)
  return npz.read(path, what=f"the weights file {path}")[0]


def digest(tensors: dict[str, np.ndarray]) -> str:
  """SHA-256 over names and bytes of the tensors up to pool3, which must be all there."""
  sha = hashlib.sha256()
  for name in sorted(_layout(class_layer=False)):
    sha.update(name.encode())
    sha.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
  return sha.hexdigest()


def to_variables(tensors: dict[str, np.ndarray], source: str = "the weights") -> Params:
  """Flax variables from tensors under pytorch-fid's names.

  Raises:
    ConfigError: a name is missing or unknown, a shape or type is wrong, or a batch normalisation has a
      scale, which the FID network has not.
  """
  layout = _layout("fc.weight" in tensors)
  ignored = {name for name in tensors if name.endswith(".num_batches_tracked") or name == "fc.bias"}
  missing, unknown = sorted(layout.keys() - tensors), sorted(tensors.keys() - layout - ignored)
  for names, what in ((missing, "lacks"), (unknown, "has the unknown")):
    if names:
      raise ConfigError(
        f"{source} {what} {len(names)} tensors, such as {', '.join(names[:3])}; it must hold the FID "
        "Inception network of 2015-12-05 under pytorch-fid's names."
      )
  variables = {"params": {}, "batch_stats": {}}
  for name, (path, shape) in layout.items():
    tensor = np.asarray(tensors[name])
    if tensor.shape != shape or tensor.dtype != np.float32:
      raise ConfigError(
        f"{source}: {name} is {tensor.dtype} {list(tensor.shape)}; it must be float32 {list(shape)}."
      )
    if path is None:
      if not np.all(tensor == 1):
        raise ConfigError(f"{source}: {name} is not 1 everywhere; this is not the FID Inception network.")
      continue
    *modules, leaf = path
    place = functools.reduce(lambda tree, key: tree.setdefault(key, {}), modules, variables)
    place[leaf] = np.transpose(tensor, (2, 3, 1, 0)) if tensor.ndim == 4 else tensor.T
  return variables


LEAVES = {"kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@functools.cache
def _layout(class_layer: bool) -> dict[str, tuple[tuple[str, ...] | None, tuple[int, ...]]]:
  """pytorch-fid's name -> (place in the variables or None, its shape there), of every tensor."""
  image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
  shapes = jax.eval_shape(Inception(class_layer).init, jax.random.key(0), image)
  layout = {}
  for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    path = tuple(key.key for key in keys)
    *modules, name = path[1:]
    shape = tuple(leaf.shape[i] for i in (3, 2, 0, 1)) if leaf.ndim == 4 else leaf.shape[::-1]
    layout[".".join([*modules, LEAVES[name]])] = path, shape
    if name == "mean":
      layout[".".join([*modules, "weight"])] = None, shape
  return layout
