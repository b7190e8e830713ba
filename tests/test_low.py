"""The condition "low": what it tells, that a denoiser told it is the conditional Gaussian's, and what it refuses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax import config, experiment, keys
from diffjax.conditions import CONDITIONS, requests
from diffjax.data.source import ArraySource, Field
from diffjax.degradations import DEGRADATIONS
from diffjax.keys import Draws
from diffjax.models.conditioning import Widths, with_planes
from diffjax.spaces import SPACES, of_pixels, to_pixels
from diffjax.types import ConfigError, Trained

FIELDS = {"image": Field((4, 4, 1), "uint8"), "label": Field((), "int32", 3)}
low = CONDITIONS["low"]


def pixels(count, seed=0, shape=(4, 4, 1)):
  return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def drawn(count):
  return Draws(keys.seed(3), jnp.arange(count), count)


def test_the_denoiser_that_is_told_it_is_the_conditional_gaussian_s():
  """x0 ~ N(0, C), y = A x0 with means of blocks, x_t = alpha x0 + sigma eps: least squares on (x_t, planes) is

  E[x0 | x_t, y] = C B^T (B C B^T + R)^-1 (x_t, y),   B = (alpha I, A),  R = diag(sigma^2 I, 0)
  """
  rng, count, alpha, sigma = np.random.default_rng(0), 20_000, 0.6, 0.8
  near = np.exp(-np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
  cov = 0.04 * np.kron(near, near)
  raw = rng.multivariate_normal(np.zeros(16), cov, count).reshape(-1, 4, 4, 1)
  image = to_pixels(raw)
  x0 = np.asarray(of_pixels(image)).reshape(count, 16)
  xt = alpha * x0 + sigma * rng.standard_normal(x0.shape)
  value = low(FIELDS).value({"image": jnp.asarray(image), "index": jnp.arange(count)}, drawn(count))
  planes = np.asarray(value.planes).reshape(count, -1)
  seen = np.concatenate([xt, planes], axis=1)
  fitted = seen @ np.linalg.lstsq(seen, x0, rcond=1e-6)[0]

  block = np.kron(np.eye(2), np.full((1, 2), 0.5))
  see = np.concatenate([alpha * np.eye(16), np.kron(block, block)])
  noise = np.diag([sigma**2] * 16 + [1e-5] * 4)
  gain = cov @ see.T @ np.linalg.inv(see @ cov @ see.T + noise)
  want = np.concatenate([xt, x0 @ np.kron(block, block).T], axis=1) @ gain.T
  assert np.sqrt(np.mean((fitted - want) ** 2)) < 0.01
  blind = xt @ (alpha * cov @ np.linalg.inv(alpha**2 * cov + sigma**2 * np.eye(16))).T
  assert np.sqrt(np.mean((blind - want) ** 2)) > 0.05  # the small image says much


def test_the_level_that_is_told_is_that_of_the_noise_which_is_an_example_s_own():
  count = 4000
  grey = {"image": jnp.full((count, 4, 4, 1), 191, jnp.uint8), "index": jnp.arange(count)}
  condition = low(FIELDS, noise=0.8, level=0.5, upsampling="nearest")
  labels = condition.value(grey, drawn(count))
  level, planes = np.asarray(labels.level), np.asarray(labels.planes)[:, ::2, ::2, 0]
  assert 0 <= level.min() < 0.01 and 0.79 < level.max() <= 0.8 and abs(level.mean() - 0.4) < 0.02
  clean = of_pixels(np.asarray([191], np.uint8))[0]
  eps = (planes - np.sqrt(1 - level**2)[:, None, None] * clean) / level[:, None, None]
  for rows in np.array_split(np.argsort(level), 4):
    assert abs(eps[rows].std() - 1) < 0.05 and abs(eps[rows].mean()) < 0.06
  part = {name: value[7:9] for name, value in grey.items()}
  again = condition.value(part, Draws(keys.seed(3), jnp.arange(7, 9), count))
  np.testing.assert_array_equal(again.planes, labels.planes[7:9])

  at_sampling = condition.value(grey, None)
  np.testing.assert_array_equal(at_sampling.level, 0.5)
  np.testing.assert_array_equal(condition.value(part, None).planes, at_sampling.planes[7:9])
  assert (low(FIELDS).value(grey, drawn(count)).level == 0).all()


def test_what_samples_ask_for_is_what_training_makes():
  parts, data = (
    low(FIELDS, degradation="bicubic"),
    {"image": pixels(5), "label": np.asarray([0, 2, 1, 0, 2], np.int32)},
  )
  source = ArraySource(data, "", {"label": 3})
  request = requests({"low": parts, "label": CONDITIONS["label"](FIELDS)}, np.arange(7), source)
  np.testing.assert_array_equal(
    request["label"], data["label"][np.arange(7) % 5]
  )  # that of the row, not in turn
  np.testing.assert_array_equal(request["image"], data["image"][np.arange(7) % 5])
  small = DEGRADATIONS["bicubic"](of_pixels(jnp.asarray(request["image"])), 2, None)
  np.testing.assert_array_equal(request["low"], to_pixels(small))
  rows = {"image": jnp.asarray(request["image"]), "index": jnp.arange(7)}
  value = parts.value({"low": jnp.asarray(request["low"]), "index": jnp.arange(7)}, None)
  np.testing.assert_allclose(value.planes, parts.value(rows, None).planes, atol=1e-6)
  space = SPACES["reduced"](FIELDS, degradation="bicubic")
  assert space.shape == (2, 2, 1)
  np.testing.assert_allclose(space.encode(rows, None), of_pixels(request["low"]), atol=1e-6)
  np.testing.assert_array_equal(space.decode({}, space.encode(rows, None))["image"], request["low"])


def test_it_enters_as_planes_and_its_null_is_all_noise():
  condition = low(FIELDS, noise=0.5)
  value = condition.value({"image": jnp.asarray(pixels(3)), "index": jnp.arange(3)}, None)
  net = condition.embed(Widths(8, 6, 6, rows=1.0))
  message = net.apply(net.init(keys.seed(0), value), value)
  np.testing.assert_array_equal(message.planes, value.planes)
  assert message.vector.shape == (3, 6) and message.tokens is None
  null = condition.null(value)
  assert (null.level == 1).all() and (null.planes == 0).all()
  with pytest.raises(
    ConfigError, match=r"planes are of \(4, 4\) places, but what the network is given of \(2, 2\)"
  ):
    with_planes(jnp.zeros((3, 2, 2, 1)), value.planes)


def test_sampling_may_begin_from_the_small_image_at_a_level_of_noise():
  fields = {"image": Field((8, 8, 1), "uint8")}
  c = config.base()
  c.condition.names, c.model.name, c.sample.guides = ("low",), "unet", ()
  c.model.unet.update(channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
  c.schedule.name, c.objective.predict, c.sample.sampler, c.sample.final = "cosine", "v", "ddim", "none"
  c.sample.grid, c.sample.steps, c.condition.low.upsampling = "trailing", 10, "nearest"
  own = keys.of_examples(keys.seed(5), jnp.arange(2))
  data = {"index": jnp.arange(2), "low": jnp.asarray(pixels(2, shape=(4, 4, 1)))}

  def begun(begin):
    c.condition.low.begin = begin
    task = experiment.create(c, fields).task
    return task.draw, task.draw.begin({}, {}, task.draw.plan, data, own).x

  whole, noise = begun(1.0)
  cut, x = begun(0.55)
  assert (whole.stops, cut.stops, cut.evaluations) == (9, 4, 4) and cut.name(0) == "t = 0.5"
  clean = np.repeat(np.repeat(np.asarray(of_pixels(data["low"])), 2, 1), 2, 2)
  alpha, sigma = (np.cos(np.pi / 4), np.sin(np.pi / 4))  # of the cosine schedule at t = 1/2
  np.testing.assert_allclose(x, alpha * clean + sigma * noise, atol=0.02)
  with pytest.raises(
    ConfigError, match=r"config.condition.low.begin is 0.15, but sampling's times fall to 0.2"
  ):
    begun(0.15)


def stage(shape=(2, 2, 1), data=None):
  """A run whose sample i is the number i everywhere, and was told the class 2."""

  def sample(params, index, source, prompts, again):
    images = np.broadcast_to(index.reshape(-1, 1, 1, 1), (len(index), *shape)).astype(np.uint8)
    return {"image": images}, {"index": index, "label": np.full(len(index), 2), "low": images[:, :1, :1]}

  can = {"sample": sample, "shapes": lambda params: {"image": shape}, "data": lambda params: data or FIELDS}
  return Trained("runs/base", can, (), "")


def test_a_stage_s_samples_are_told_one_by_one_with_what_they_were_told():
  request = requests(
    {"low": low(FIELDS, run=stage()), "label": CONDITIONS["label"](FIELDS)}, np.asarray([4, 9]), None
  )
  np.testing.assert_array_equal(request["low"][:, 0, 0, 0], [4, 9])
  np.testing.assert_array_equal(request["label"], [2, 2])
  assert request["low_low"].shape == (2, 1, 1, 1) and request.keys() == {"low", "label", "low_low"}


@pytest.mark.parametrize(
  "options, words",
  [
    ({"run": stage((4, 4, 1))}, r"samples are image \(4, 4, 1\); here they must be image \(2, 2, 1\)"),
    ({"run": stage((2, 2, 3))}, r"image \(2, 2, 3\)"),
    ({"run": stage(data={"label": Field((), "int32", 10)})}, "other data: its 'label' is not that of these"),
    ({"factor": 3}, "factor is 3, which does not divide"),
    ({"noise": 0.2, "level": 0.3}, "level is 0.3, of which training told nothing: noise is 0.2"),
    ({"field": "label"}, "field is 'label', but the data's uint8 fields are image"),
    ({"degradation": "webp"}, "must be one of area, bicubic, blur_noise, jpeg"),
  ],
)
def test_what_does_not_fit_is_refused(options, words):
  with pytest.raises(ConfigError, match=words):
    low(FIELDS, **options)


def test_small_images_of_a_folder(tmp_path):
  for i, image in enumerate(pixels(3, shape=(2, 2))):
    Image.fromarray(image).convert("RGB").save(tmp_path / f"{i}.png")  # read as grey, as the data are
  request = low(FIELDS, images=str(tmp_path)).request(np.arange(5), None)
  np.testing.assert_array_equal(request["low"][..., 0], pixels(3, shape=(2, 2))[np.arange(5) % 3])
  large = low({**FIELDS, "image": Field((8, 8, 1), "uint8")}, images=str(tmp_path))
  with pytest.raises(ConfigError, match=r"pictures are of shape \(2, 2, 1\); it must be \(4, 4, 1\)"):
    large.request(np.arange(2), None)
  Image.fromarray(pixels(1, shape=(8, 8))[0]).save(tmp_path / "3.png")
  with pytest.raises(ConfigError, match="0.png is 2x2 and 3.png 8x8; resize them all to 4x4, the small size"):
    large.request(np.arange(2), None)
  with pytest.raises(ConfigError, match="there are no data"):
    dataclasses.replace(low(FIELDS)).request(np.arange(2), None)
