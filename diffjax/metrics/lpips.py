"""LPIPS, the perceptual distance of Zhang et al. 2018 (version 0.1), of images in [-1, 1].

    weights = load("alexnet")                  # an npz, checked by the hash of its tensors
    distance(weights, a, b)                    # [B, H, W, 3] each -> [B], differentiable

    x   = (x - MEAN) / STD, per channel
    f_k = the k-th tap of a classifier of ImageNet, divided at every pixel by its length over the channels + 1e-10
    d   = sum over k of the mean over pixels of sum over channels lin_k (f_k(a) - f_k(b))^2           (1)

The npz holds torchvision's features.<i>.weight [O, I, H, W] and .bias, and the heads lin<k>.weight [C]. It is looked
for where it is named, then as lpips_<network>.npz in the folder $DIFFJAX_LPIPS, then in the cache (data/cache.py).
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from diffjax.data import cache, npz
from diffjax.types import ConfigError, Params, PerExample

ENVIRONMENT = "DIFFJAX_LPIPS"
MEAN = np.array([-0.030, -0.088, -0.188], np.float32)
STD = np.array([0.458, 0.448, 0.450], np.float32)


class Layer(NamedTuple):
  """A convolution with ReLU.

  Attributes:
    index: its number in torchvision's features.
    stride: of the convolution.
    padding: zeros on each side.
    pool: side of the maximum pooling of stride 2 before it; 0 for none.
    tap: whether its output is one.
  """

  index: int
  stride: int
  padding: int
  pool: int
  tap: bool


def _vgg(index: int, pool: bool, tap: bool) -> Layer:
  return Layer(index, 1, 1, 2 * pool, tap)


NETWORKS = {
  "alexnet": (
    *(Layer(0, 4, 2, 0, True), Layer(3, 1, 2, 3, True), Layer(6, 1, 1, 3, True)),
    *(Layer(8, 1, 1, 0, True), Layer(10, 1, 1, 0, True)),
  ),
  "vgg16": tuple(
    _vgg(index, index in (5, 10, 17, 24), index in (2, 7, 14, 21, 28))
    for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
  ),
}
# SHA-256 over the sorted names and float32 bytes of the published tensors.
PUBLISHED = {
  "vgg16": "4e469b7a09e2f7eac1e9fb9f0ce8c2c70a6abf5f9aceb310224f8575c2de6d78",
  "alexnet": "54d05c0a4dc87b92a5d049f1a45bb7a936f4fe477481f89989f1b46a2e24a1fd",
}


LEAST = {"vgg16": 16, "alexnet": 31}  # pixels to a side of which the last layer still has one


class Weights(NamedTuple):
  """Weights as `distance` takes them.

  Attributes:
    network: one of NETWORKS.
    tensors: convolutions' kernels [H, W, I, O] and biases, and the heads, by their names.
  """

  network: str
  tensors: Params


def load(network: str, path: str = "") -> Weights:
  """The published weights.

  Args:
    network: one of NETWORKS.
    path: the npz; see the module's docstring for where it is found without one.

  Raises:
    ConfigError: there is no such file, or it holds other tensors.
  """
  file = _locate(network, path)
  tensors, _ = npz.read(file, what=f"weights_file: {file}")
  if (fingerprint := digest(tensors)) != PUBLISHED[network]:
    raise ConfigError(
      f"weights_file: the tensors in {file} are not LPIPS's published {network} (hash {fingerprint[:16]}, expected "
      f"{PUBLISHED[network][:16]}); name the right file."
    )
  turned = {name: np.transpose(t, (2, 3, 1, 0)) if t.ndim == 4 else t for name, t in tensors.items()}
  return Weights(network, turned)


def _locate(network: str, path: str) -> Path:
  folder = os.environ.get(ENVIRONMENT)
  file = Path(path or (Path(folder) if folder else cache.folder()) / f"lpips_{network}.npz").expanduser()
  if not file.is_file():
    raise ConfigError(
      f"weights_file: LPIPS's weights are looked for in {file}, which is not there; put the npz there, or name it, or "
      f"its folder by {ENVIRONMENT}."
    )
  return file


def digest(tensors: dict[str, np.ndarray]) -> str:
  """SHA-256 over the sorted names and the bytes of tensors."""
  sha = hashlib.sha256()
  for name in sorted(tensors):
    sha.update(name.encode())
    sha.update(np.ascontiguousarray(tensors[name]).tobytes())
  return sha.hexdigest()


def distance(weights: Weights, a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> PerExample:
  """Equation (1), of images [B, H, W, 3], or [B, H, W, 1] as grey ones; ConfigError where they are too small."""
  total = 0.0
  for k, (f, g) in enumerate(zip(*(_taps(weights, x) for x in (a, b)), strict=True)):
    head = weights.tensors[f"lin{k}.weight"]
    total += (jnp.square(f - g) @ head).mean((1, 2))
  return total


def features(weights: Weights, images: UInt8[Array, "b h w c"]) -> Float[Array, "b d"]:
  """The last tap of uint8 images [B, H, W, C], before its division, as a mean over the pixels; errors as above."""
  x = images.astype(jnp.float32) / 127.5 - 1
  return _outputs(weights, x)[-1].mean((1, 2))


def _taps(weights: Weights, x: Float[Array, "b h w c"]) -> list[Array]:
  return [f * _inverse_length(f) for f in _outputs(weights, x)]


def _outputs(weights: Weights, x: Float[Array, "b h w c"]) -> list[Array]:
  if min(x.shape[1:3]) < (least := LEAST.get(weights.network, 1)):
    raise ConfigError(
      f"LPIPS by {weights.network} needs images of at least {least}x{least} pixels, and these have "
      f"{x.shape[1]}x{x.shape[2]}; leave it out, or take vgg16, which needs {LEAST['vgg16']}x{LEAST['vgg16']}."
    )
  x = (jnp.broadcast_to(x, (*x.shape[:-1], 3)) - MEAN) / STD
  outputs = []
  for layer in NETWORKS[weights.network]:
    if layer.pool:
      window = (1, layer.pool, layer.pool, 1)
      x = lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), "VALID")
    kernel, bias = (weights.tensors[f"features.{layer.index}.{part}"] for part in ("weight", "bias"))
    pads = [(layer.padding, layer.padding)] * 2
    strides, sides = (layer.stride, layer.stride), ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=sides, precision="highest")
    x = jax.nn.relu(x + bias)
    if layer.tap:
      outputs.append(x)
  return outputs


def _inverse_length(x: Float[Array, "b h w c"]) -> Float[Array, "b h w 1"]:
  """1 / (|x| + 1e-10), with a finite gradient at 0."""
  square = jnp.square(x).sum(-1, keepdims=True)
  return 1 / (jnp.sqrt(jnp.where(square > 0, square, 1)) * (square > 0) + 1e-10)


@functools.cache
def compiled(network: str):
  """(tensors, a, b) -> distances, compiled."""
  return jax.jit(lambda tensors, a, b: distance(Weights(network, tensors), a, b))
