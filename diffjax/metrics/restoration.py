"""How near samples are to the originals that they were to bring back, and to the small images that they were given.

psnr, ssim    of a sample and its original                                                          (fidelity.py)
lpips         where its weights are given                                                           (lpips.py)
consistency   PSNR of the sample, made small, and the small image
frechet_<n>   where features are chosen: Fréchet distance of the n samples to the held-out images
bicubic_...   the same of the small image's cubic interpolation: what there is without a model

A model that answers with the mean of all originals wins by PSNR and is blurred (Blau & Michaeli 2018); drawn in one
step (config.sample.steps = 1) a diffusion model is one.
"""

from typing import Annotated

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from diffjax.data.order import permutation
from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics import fidelity, lpips
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.metric import Metric, needs
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, images
from diffjax.metrics.reconstruction import NONE, lpips_between
from diffjax.ranges import one_of
from diffjax.types import ConfigError

RESAMPLINGS = {"area": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}
HIGHER = tuple(f"{of}{name}" for of in ("", "bicubic_") for name in ("psnr", "ssim", "consistency"))

Images = UInt8[np.ndarray, "n h w c"]


@needs(lambda features=NONE, **others: 1 if features == NONE else 2)
def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  field: str = "image",
  degradation: Annotated[str, one_of(RESAMPLINGS)] = "area",
  perceptual: Annotated[str, one_of((NONE, *lpips.NETWORKS))] = NONE,
  features: Annotated[str, one_of((NONE, *FEATURES))] = NONE,
) -> Metric:
  """The metric, of samples that ask for originals, or small images, or both.

  Args:
    train, test: the data.
    parallel: the devices.
    field: of samples and originals.
    degradation: by which a sample is made small, as the small images were.
    perceptual: LPIPS's network, or "none".
    features: of the Fréchet distance, or "none"; its floor is that of as many training images.

  Raises:
    ConfigError: weights that cannot be had.
  """
  settings = {"degradation": degradation}
  if perceptual != NONE:
    lpips.load(perceptual)
    settings["lpips"] = f"{perceptual} {lpips.PUBLISHED[perceptual][:16]}"
  if features != NONE:
    extract, about = FEATURES[features](train, parallel)
    real = Moments.of(extract(images(test, field=field)))
    settings |= about | {"reference": f"test split, {test.fingerprint}"}

  def judged(x, request):
    arrays = {} if features == NONE else {"frechet": extract(x)}
    if field in request:
      original = request[field]
      arrays["psnr"] = fidelity.psnr(original, x)
      if min(x.shape[1:3]) >= fidelity.WINDOW:
        arrays["ssim"] = fidelity.ssim(original, x)
      if perceptual != NONE:
        arrays["lpips"] = lpips_between(perceptual, original, x)
    if "low" in request:
      low = request["low"]
      arrays["consistency"] = fidelity.psnr(low, resized(x, low.shape, degradation))
    return arrays

  def compared(samples, request):
    x = samples[field]
    require(x, request, field)
    arrays = judged(x, request)
    if field in request and "low" in request:
      others = judged(resized(request["low"], x.shape, "bicubic"), request)
      arrays |= {f"bicubic_{name}": values for name, values in others.items()}
    return arrays

  def score(arrays):
    distances = {name: Moments.of(rows) for name, rows in arrays.items() if rows.ndim > 1}
    values = means({name: values for name, values in arrays.items() if name not in distances})
    for name, moments in distances.items():
      values[f"{name}_{moments.count}"] = frechet_distance(moments, real)
      if moments.rank_deficient or real.rank_deficient:
        values["frechet_rank_deficient"] = 1.0
    return values

  def floor_at(count):
    if features == NONE or count < 2:
      return {}
    some = train.read(permutation(0, 0, len(train))[:count], (field,))[field]
    return {f"frechet_{count}": frechet_distance(Moments.of(extract(some)), real)}

  return Metric((field,), compared, score, {}, settings, higher=HIGHER, floor_at=floor_at)


def require(x: Images, request, field: str) -> None:
  """Raises ConfigError unless samples ask for originals of their size, or small images."""
  if field not in request and "low" not in request:
    raise ConfigError(
      f"it compares samples with the {field!r} or the 'low' that they ask for, and these ask for "
      f"{', '.join(name for name in request if name != 'index') or 'nothing'}; leave it out."
    )
  if field in request and request[field].shape != x.shape:
    raise ConfigError(
      f"the originals are of shape {request[field].shape[1:]}, but the samples of {x.shape[1:]}."
    )


def resized(images: Images, shape: tuple[int, ...], how: str) -> Images:
  """Images of these sizes, by Pillow, in floating point and rounded once."""
  _, height, width, _ = shape
  planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3]).astype(np.float32)
  results = [np.asarray(Image.fromarray(p).resize((width, height), RESAMPLINGS[how])) for p in planes]
  pixels = np.clip(np.round(results), 0, 255).astype(np.uint8)
  return pixels.reshape(len(images), images.shape[-1], height, width).transpose(0, 2, 3, 1)


def means(arrays) -> dict[str, float]:
  """Of each array; ConfigError where there are no samples."""
  if not all(len(values) for values in arrays.values()):
    raise ConfigError("a mean needs at least 1 sample, and there are 0.")
  return {name: float(values.mean()) for name, values in arrays.items()}
