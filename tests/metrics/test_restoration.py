"""The metric "restoration": by hand, what is better than what, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.data.source import ArraySource
from diffjax.degradations import DEGRADATIONS
from diffjax.metrics import METRICS, restoration
from diffjax.metrics.probe import FEATURES
from diffjax.spaces import of_pixels, to_pixels
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
SMOOTH = np.cumsum(np.cumsum(RNG.normal(0, 4, (6, 16, 16, 3)), 1), 2)
IMAGES = np.clip(128 + SMOOTH, 0, 255).astype(np.uint8)


def low_of(images, how="area"):
  return restoration.resized(images, (1, 4, 4, 3), how)


def judged(x, request, **options):
  return METRICS["restoration"](None, None, None, **options).judge({"image": x}, request)


@pytest.mark.parametrize("how", restoration.RESAMPLINGS)
def test_images_are_made_small_as_the_condition_does(how):
  own = keys.of_examples(keys.seed(0), jnp.arange(6))
  want = to_pixels(np.asarray(DEGRADATIONS[how](of_pixels(jnp.asarray(IMAGES)), 4, own)))
  assert np.abs(low_of(IMAGES, how).astype(int) - want).max() <= 1  # halves


def test_the_values_are_the_formulas(monkeypatch):
  request = {"image": IMAGES, "low": low_of(IMAGES)}
  best = judged(IMAGES, request)
  assert best["psnr"] == best["consistency"] == 100 and best["ssim"] == pytest.approx(1)
  off = np.where(IMAGES > 127, IMAGES - 5, IMAGES + 5).astype(np.uint8)
  assert judged(off, request)["psnr"] == pytest.approx(10 * np.log10(255**2 / 25))
  flat = np.repeat(np.repeat(request["low"], 4, 1), 4, 2)
  assert judged(flat, request)["consistency"] == 100 > judged(flat, request)["psnr"]
  smooth = restoration.resized(request["low"], IMAGES.shape, "bicubic")
  monkeypatch.setattr(restoration.lpips, "load", lambda name: None)
  monkeypatch.setattr(restoration, "lpips_between", lambda name, a, b: np.abs(a - 1.0 * b).mean((1, 2, 3)))
  result = judged(smooth, request, perceptual="alexnet")
  of_model = {name: value for name, value in result.items() if "bicubic" not in name}
  assert of_model.keys() == {"psnr", "ssim", "lpips", "consistency"} and result["lpips"] > 1
  assert result == of_model | {f"bicubic_{name}": value for name, value in of_model.items()}


def test_it_takes_originals_or_small_images_alone_and_no_others():
  assert judged(IMAGES, {"low": low_of(IMAGES)}) == {"consistency": 100.0}
  assert judged(IMAGES, {"image": IMAGES}).keys() == {"psnr", "ssim"}
  with pytest.raises(ConfigError, match="and these ask for label; leave it out"):
    judged(IMAGES, {"label": np.zeros(6), "index": np.arange(6)})
  with pytest.raises(
    ConfigError, match=r"originals are of shape \(16, 16, 3\), but the samples of \(4, 4, 3\)"
  ):
    judged(low_of(IMAGES), {"image": IMAGES})


def test_the_frechet_distance_is_to_the_held_out_images_and_its_floor_that_of_training_ones(monkeypatch):
  greys = lambda x: x.reshape(len(x), -1).mean(1, keepdims=True) / 255  # one feature
  monkeypatch.setitem(FEATURES, "alexnet", lambda train, parallel: (greys, {"features": "greys"}))
  train, test = (ArraySource({"image": x}, name, {}) for x, name in ((IMAGES // 2, "a"), (IMAGES, "b")))
  metric = METRICS["restoration"](train, test, None, features="alexnet")
  darker, low = IMAGES - IMAGES // 4, low_of(IMAGES)
  result = metric.judge({"image": darker}, {"image": IMAGES, "low": low})

  def distance(a, b):  # of Gaussians on the line
    return (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2

  real, cubic = greys(IMAGES), restoration.resized(low, IMAGES.shape, "bicubic")
  assert result["frechet_6"] == pytest.approx(distance(greys(darker), real)) and result["frechet_6"] > 1e-3
  assert result["bicubic_frechet_6"] == pytest.approx(distance(greys(cubic), real), abs=1e-12)
  assert metric.floor_at(6)["frechet_6"] == pytest.approx(distance(greys(IMAGES // 2), real))
  assert "frechet_rank_deficient" not in result and metric.floor_at(1) == {}
  assert metric.judge({"image": IMAGES}, {"low": low}).keys() == {"frechet_6", "consistency"}
