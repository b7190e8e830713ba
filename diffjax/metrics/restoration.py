"""How near samples are to the originals that they were to bring back, and to the small images that they were given.

psnr, ssim    of a sample and its original                                                          (fidelity.py)
lpips         where its weights are given                                                           (lpips.py)
consistency   PSNR of the sample, made small, and the small image
bicubic_...   the same of the small image's cubic interpolation: what there is without a model

A model that answers with the mean of all originals wins by PSNR and is blurred (Blau & Michaeli 2018); drawn in one
step (config.sample.steps = 1) a diffusion model is one.
"""

from typing import Annotated

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics import fidelity, lpips
from diffjax.metrics.metric import Metric
from diffjax.metrics.reconstruction import NONE, lpips_between
from diffjax.ranges import one_of
from diffjax.types import ConfigError

RESAMPLINGS = {"area": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}
HIGHER = tuple(f"{of}{name}" for of in ("", "bicubic_") for name in ("psnr", "ssim", "consistency"))

Images = UInt8[np.ndarray, "n h w c"]


def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  field: str = "image",
  degradation: Annotated[str, one_of(RESAMPLINGS)] = "area",
  perceptual: Annotated[str, one_of((NONE, *lpips.NETWORKS))] = NONE,
) -> Metric:
  """The metric, of samples that ask for originals, or small images, or both.

  Args:
    train, test: the data.
    parallel: the devices.
    field: of samples and originals.
    degradation: by which a sample is made small, as the small images were.
    perceptual: LPIPS's network, or "none".

  Raises:
    ConfigError: weights that cannot be had.
  """
  settings = {"degradation": degradation}
  if perceptual != NONE:
    lpips.load(perceptual)
    settings["lpips"] = f"{perceptual} {lpips.PUBLISHED[perceptual][:16]}"

  def near(a, b):
    arrays = {"psnr": fidelity.psnr(a, b)}
    if min(a.shape[1:3]) >= fidelity.WINDOW:
      arrays["ssim"] = fidelity.ssim(a, b)
    if perceptual != NONE:
      arrays["lpips"] = lpips_between(perceptual, a, b)
    return arrays

  def features(samples, request):
    x, arrays = samples[field], {}
    if field not in request and "low" not in request:
      raise ConfigError(
        f"it compares samples with the {field!r} or the 'low' that they ask for, and these ask for "
        f"{', '.join(name for name in request if name != 'index') or 'nothing'}; leave it out."
      )
    if field in request:
      original = request[field]
      if original.shape != x.shape:
        raise ConfigError(
          f"the originals are of shape {original.shape[1:]}, but the samples of {x.shape[1:]}."
        )
      arrays |= near(original, x)
    if "low" in request:
      low = request["low"]
      consistency = lambda x: {"consistency": fidelity.psnr(low, resized(x, low.shape, degradation))}
      arrays |= consistency(x)
      if field in request:
        x = resized(low, x.shape, "bicubic")
        arrays |= {f"bicubic_{name}": of for name, of in (near(original, x) | consistency(x)).items()}
    return arrays

  return Metric((field,), features, score, {}, settings, higher=HIGHER)


def resized(images: Images, shape: tuple[int, ...], how: str) -> Images:
  """Images of these sizes, by Pillow, in floating point and rounded once."""
  _, height, width, _ = shape
  planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3]).astype(np.float32)
  results = [np.asarray(Image.fromarray(p).resize((width, height), RESAMPLINGS[how])) for p in planes]
  pixels = np.clip(np.round(results), 0, 255).astype(np.uint8)
  return pixels.reshape(len(images), images.shape[-1], height, width).transpose(0, 2, 3, 1)


def score(features) -> dict[str, float]:
  """Means; ConfigError where there are no samples."""
  if not all(len(values) for values in features.values()):
    raise ConfigError("a mean needs at least 1 sample, and there are 0.")
  return {name: float(values.mean()) for name, values in features.items()}
