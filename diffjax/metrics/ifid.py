"""The probe "ifid": how natural an autoencoder's images are between those of the data (arXiv 2603.05630).

    ifid   Fréchet distance of decode((1 - a) z + a z') to the data, z' the nearest other latent to z   (1)
    rfid   the same at a = 0, on the same images

Diffusion lands between the latents that it was trained on, so (1) foretells how good its samples can be, where the
distance of reconstructions does not. Nearest is Euclidean, of means divided by each channel's deviation.
"""

from typing import Annotated

import numpy as np

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, Probed, images, mapped, require
from diffjax.metrics.reconstruction import to_pixels
from diffjax.ranges import Count, Share, one_of
from diffjax.types import Trained

ROWS = 256


def probe(
  model: Trained,
  train: Source,
  test: Source,
  parallel: Parallel,
  count: Count = 10_000,
  between: Share = 0.5,
  features: Annotated[str, one_of(FEATURES)] = "inception",
) -> Probed:
  """The probe.

  Args:
    model: one that can encode and decode.
    train: the training images.
    test: not used.
    parallel: the devices.
    count: of the training images, at most.
    between: a of (1).
    features: of the Fréchet distance.

  Raises:
    ConfigError: a model that is no autoencoder, or weights that cannot be had.
  """
  require(model, "encode", "decode")
  x = images(train, count)
  z = mapped(model, "encode", x, parallel)["mean"]
  extract, about = FEATURES[features](train, parallel)
  data, blend = Moments.of(extract(x)), (1 - between) * z + between * z[nearest(z)]
  moments = lambda z: Moments.of(extract(to_pixels(mapped(model, "decode", z, parallel))))
  values = {name: frechet_distance(moments(z), data) for name, z in (("ifid", blend), ("rfid", z))}
  return Probed(values, {"images": f"{len(x)} of {train.fingerprint}", "between": between, **about})


def nearest(z: np.ndarray) -> np.ndarray:
  """The row [n] of the nearest other latent of each of z [n, ..., Z]."""
  deviation = z.reshape(-1, z.shape[-1]).std(0)
  rows = (z / np.maximum(deviation, 1e-12)).reshape(len(z), -1).astype(np.float64)
  squares, indices = np.sum(rows**2, 1), []
  for start in range(0, len(rows), ROWS):
    part = np.arange(start, min(start + ROWS, len(rows)))
    distance = squares - 2 * rows[part] @ rows.T
    distance[np.arange(len(part)), part] = np.inf
    indices.append(distance.argmin(1))
  return np.concatenate(indices)
