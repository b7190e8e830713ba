"""The probe "reconstruction": what an autoencoder loses of held-out images, and what its latent holds.

psnr, ssim        of the reconstruction from the latent's mean                      (fidelity.py)
lpips             where its weights are given                                       (lpips.py)
rfid              Fréchet distance of the reconstructions to the images themselves
kl, kl_<channel>  nats from the unit Gaussian, of an image and of each channel
active            share of the latent's numbers whose mean varies over the images by more than 0.01 (Burda et
                  al. 2016, section 5.2)
"""

from typing import Annotated

import numpy as np

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics import fidelity, lpips
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, Probed, images, in_batches, mapped, require
from diffjax.ranges import Whole, one_of
from diffjax.types import Trained

NONE = "none"
ACTIVE = 0.01


def probe(
  model: Trained,
  train: Source,
  test: Source,
  parallel: Parallel,
  count: Whole = 0,
  perceptual: Annotated[str, one_of((NONE, *lpips.NETWORKS))] = NONE,
  features: Annotated[str, one_of((NONE, *FEATURES))] = NONE,
) -> Probed:
  """The probe.

  Args:
    model: one that can encode and decode.
    train: the training images, of which a classifier's features are.
    test: the held-out images.
    parallel: the devices.
    count: of the held-out images; 0 for all.
    perceptual: LPIPS's network, or "none".
    features: of the Fréchet distance, or "none".

  Raises:
    ConfigError: a model that is no autoencoder, or weights that cannot be had.
  """
  require(model, "encode", "decode")
  x = images(test, count)
  latent = mapped(model, "encode", x, parallel)
  again = to_pixels(mapped(model, "decode", latent["mean"], parallel))
  values = {"psnr": float(fidelity.psnr(x, again).mean())}
  if min(x.shape[1:3]) >= fidelity.WINDOW:
    values["ssim"] = float(fidelity.ssim(x, again).mean())
  settings = {"images": f"{len(x)} of {test.fingerprint}"}
  if perceptual != NONE:
    values["lpips"] = float(lpips_between(perceptual, x, again).mean())
    settings["lpips"] = f"{perceptual} {lpips.PUBLISHED[perceptual][:16]}"
  if features != NONE:
    extract, about = FEATURES[features](train, parallel)
    values["rfid"] = frechet_distance(*(Moments.of(extract(part)) for part in (again, x)))
    settings |= about
  return Probed(values | of_latent(**latent), settings)


def of_latent(mean: np.ndarray, std: np.ndarray) -> dict[str, float]:
  """KL, of all and of each channel, and the share of active numbers, of moments [n, ..., Z]."""
  var = np.maximum(std.astype(np.float64) ** 2, 1e-30)
  nats = 0.5 * (mean.astype(np.float64) ** 2 + var - 1 - np.log(var))
  channels = nats.reshape(len(nats), -1, nats.shape[-1]).sum(1).mean(0)
  active = mean.astype(np.float64).var(0) > ACTIVE
  terms = {f"kl_{k}": float(value) for k, value in enumerate(channels)}
  return {"kl": float(channels.sum()), **terms, "active": float(active.mean())}


def to_pixels(x: np.ndarray) -> np.ndarray:
  """[-1, 1] to the nearest uint8."""
  return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def lpips_between(network: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The distance [n] of each pair of uint8 images [n, H, W, C]."""
  weights, distance = lpips.load(network), lpips.compiled(network)
  pairs = zip(in_batches(a), in_batches(b), strict=True)
  to_x = lambda pixels: pixels.astype(np.float32) / 127.5 - 1
  return np.concatenate([distance(weights.tensors, to_x(x), to_x(y)) for x, y in pairs])
