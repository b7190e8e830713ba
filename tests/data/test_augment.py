"""The augmentation against NumPy's and SciPy's transformations, its labels, and who draws what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from scipy import ndimage, stats

from diffjax import keys
from diffjax.data import augment
from diffjax.data.augment import AUGMENTATIONS, FILTER, LABELS, Change
from diffjax.machine.parallel import Parallel
from diffjax.types import ConfigError

H, W = 16, 20
rng = np.random.default_rng(0)
NOISE = rng.uniform(-1, 1, (3, H, W, 3)).astype(np.float32)
ROWS, COLUMNS = np.meshgrid(np.arange(H) - (H - 1) / 2, np.arange(W) - (W - 1) / 2, indexing="ij")


def change(count=3, **fields):
  """Nothing, but for the fields given, the same for every image."""
  off = Change(*(np.zeros(count, bool) for _ in range(2)), *np.zeros((4, count)), np.zeros((count, 2)))
  return off._replace(**{name: np.broadcast_to(v, getattr(off, name).shape) for name, v in fields.items()})


changed = jax.jit(augment.changed)


def smooth(size=32):
  """[1, size, size, 1]: waves that are long beside a pixel."""
  y, x = np.meshgrid(*[np.linspace(0, 1, size)] * 2, indexing="ij")
  return (np.sin(5 * x + 1) * np.cos(4 * y) + 0.3 * np.sin(3 * x - 6 * y))[None, ..., None].astype(np.float32)


def test_the_filter_is_the_orthogonal_wavelet_with_six_vanishing_moments():
  n = np.arange(12)
  np.testing.assert_allclose(FILTER.sum(), np.sqrt(2), atol=1e-9)
  for shift in range(6):
    product = FILTER[2 * shift :] @ FILTER[: 12 - 2 * shift]
    np.testing.assert_allclose(product, shift == 0, atol=1e-9)
  for moment in range(6):
    np.testing.assert_allclose(((-1.0) ** n * (n / 5.5 - 1) ** moment) @ FILTER, 0, atol=1e-7)


def test_labels_of_zero_are_the_identity_bit_for_bit():
  nothing = change()
  np.testing.assert_array_equal(augment.labels(nothing), np.zeros((3, LABELS)))
  np.testing.assert_array_equal(changed(NOISE, nothing), NOISE)
  # and a map that is nearly none is nearly none: the wavelets give back what they took
  np.testing.assert_allclose(changed(NOISE, change(angle=1e-7)), NOISE, atol=1e-4)
  for name in Change._fields:
    if name != "axis":
      one = change(**{name: 1})
      assert np.abs(augment.labels(one)).max() > 0.1 and np.abs(changed(NOISE, one) - NOISE).max() > 0.1, name


def test_flips_are_numpys():
  np.testing.assert_array_equal(changed(NOISE, change(mirrored=True)), NOISE[:, :, ::-1])
  np.testing.assert_array_equal(changed(NOISE, change(upside_down=True)), NOISE[:, ::-1])
  both = change(mirrored=[True, False, True], upside_down=[False, True, True])
  want = [NOISE[0, :, ::-1], NOISE[1, ::-1], NOISE[2, ::-1, ::-1]]
  np.testing.assert_array_equal(changed(NOISE, both), want)


def test_a_shift_by_whole_pixels_is_a_window_of_the_reflected_image():
  right, down = [5, 0, -7], [0, 3, -2]
  given = change(shift=np.stack([np.divide(right, W), np.divide(down, H)], axis=1) / 0.125)
  want = [
    np.pad(image, ((9, 9), (9, 9), (0, 0)), mode="reflect")[9 - y : 9 - y + H, 9 - x : 9 - x + W]
    for image, x, y in zip(NOISE, right, down, strict=True)
  ]
  np.testing.assert_allclose(changed(NOISE, given), want, atol=1e-5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_numpys(quarters):
  image = smooth()
  turned = changed(image, change(1, angle=quarters * np.pi / 2))[0]
  error = np.abs(turned - np.rot90(image[0], -quarters))  # clockwise
  assert error.max() < 0.05 and error[4:-4, 4:-4].max() < 0.004  # the border has a bend where it is reflected


def forward(scale=0.0, angle=0.0, stretch=0.0, axis=0.0):
  """G on (row, column) in float64: scale, then turn, then stretch."""

  def turn(a):  # of (column, row) by a towards the rows, written for (row, column)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])

  long = turn(axis) @ np.diag([2 ** (-stretch / 5), 2 ** (stretch / 5)]) @ turn(-axis)
  return long @ turn(angle) * 2 ** (scale / 5)


CASES = [
  {"scale": 1.5},
  {"scale": -1.5},
  {"angle": 0.6},
  {"stretch": 2.0},
  {"stretch": 2.0, "axis": 0.9},
  {"scale": 1.0, "angle": -2.0, "stretch": -1.0, "axis": 2.0},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_affine_map_is_scipys(case):
  image, inverse, move = smooth(), np.linalg.inv(forward(**case)), np.array([-0.7, 0.4])  # (v, u)
  centre = np.full(2, 31 / 2)
  offset = centre - inverse @ (centre + move * 4)  # an eighth of 32 pixels
  want = ndimage.affine_transform(np.float64(image[0, ..., 0]), inverse, offset, order=5, mode="mirror")
  out = changed(image, change(1, **case, shift=move[::-1]))
  np.testing.assert_allclose(out[0, ..., 0], want, atol=0.02)
  assert np.sqrt(np.mean((out[0, ..., 0] - want) ** 2)) < 0.004


def test_linear_functions_stay_linear_functions():
  case = {"scale": 2.0, "angle": 0.8, "stretch": 1.0, "axis": 0.3}
  ramp = (0.05 * ROWS - 0.03 * COLUMNS + 0.1)[None, ..., None].astype(np.float32)
  rows, columns = np.einsum("ij,jhw->ihw", np.linalg.inv(forward(**case)), [ROWS, COLUMNS])
  out = changed(ramp, change(1, **case))[0, ..., 0]
  inside = (np.abs(rows) < H / 2 - 6) & (np.abs(columns) < W / 2 - 6)  # as far as the filters reach
  assert inside.sum() > 20
  np.testing.assert_allclose(out[inside], (0.05 * rows - 0.03 * columns + 0.1)[inside], atol=2e-5)


def test_a_map_and_its_inverse_give_the_image_back():
  image = smooth()
  for there in ({"scale": 1.0}, {"angle": 1.1}, {"stretch": 1.0, "axis": 0.7}, {"shift": 0.31}):
    back = {name: value if name == "axis" else -value for name, value in there.items()}
    out = changed(changed(image, change(1, **there)), change(1, **back))
    middle = np.s_[0, 10:-10, 10:-10]
    np.testing.assert_allclose(out[middle], image[middle], atol=0.01)


def test_the_labels_say_what_was_done():
  given = change(
    mirrored=[True, False, False],
    upside_down=[False, True, False],
    scale=[0.5, 0, -2],
    angle=[0, 1, 3],
    stretch=[2, 0, -1],
    axis=[0.4, 0.4, 1],
    shift=[[1, 2], [0, 0], [3, 4]],
  )
  want = [
    [1, 0, 0.5, 0, 0, 2 * np.cos(0.4), 2 * np.sin(0.4), 1, 2],
    [0, 1, 0, np.cos(1) - 1, np.sin(1), 0, 0, 0, 0],
    [0, 0, -2, np.cos(3) - 1, np.sin(3), -np.cos(1), -np.sin(1), 3, 4],
  ]
  np.testing.assert_allclose(augment.labels(given), want, atol=1e-6)


def test_every_change_has_its_rate_and_its_distribution():
  count, p = 8192, 0.3
  result = augment.random_change(keys.Draws(keys.seed(0), jnp.arange(count), count), p)
  share = lambda flag, rate: abs(np.mean(flag) - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
  assert share(result.mirrored, 0.5) and share(result.upside_down, p / 2) and share(result.axis != 0, 0.5)
  used = {name: getattr(result, name) != 0 for name in ("scale", "angle", "stretch")}
  used["shift"] = result.shift[:, 0] != 0
  np.testing.assert_array_equal(used["shift"], result.shift[:, 1] != 0)
  assert all(share(flag, p) for flag in used.values())
  for one in used:  # of two changes neither depends on the other
    assert all(share(used[one] & used[other], p * p) for other in used if other != one)
  normal = [result.scale[used["scale"]], result.stretch[used["stretch"]], *result.shift[used["shift"]].T]
  circle = [result.angle[used["angle"]], result.axis[result.axis != 0]]
  assert all(stats.kstest(np.asarray(v), "norm").pvalue > 1e-3 for v in normal)
  assert all(stats.kstest(np.asarray(v) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3 for v in circle)
  assert abs(np.corrcoef(np.asarray(result.shift[used["shift"]]).T)[0, 1]) < 0.1


def test_an_example_s_change_depends_on_neither_the_batch_nor_the_devices():
  images = rng.uniform(-1, 1, (16, 8, 8, 1)).astype(np.float32)
  augmentation = AUGMENTATIONS["nonleaking"](0.9)

  def run(key, batch):
    return augmentation.apply(batch["image"], keys.Draws(key, batch["index"], 16))

  batch, key = {"image": images, "index": np.arange(16)}, keys.seed(5)
  results = []
  for count in (1, 8):
    parallel = Parallel("jit", Mesh(np.asarray(jax.devices()[:count]), ("data",)))
    results.append(parallel.fetch(parallel.batched(run)(key, batch)))
  np.testing.assert_array_equal(results[1][1], results[0][1])
  np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-5)
  rows = np.array([11, 2, 7])
  part = jax.jit(run)(key, jax.tree.map(lambda x: x[rows], batch))
  np.testing.assert_array_equal(part[1], results[0][1][rows])
  np.testing.assert_allclose(part[0], results[0][0][rows], atol=1e-5)
  assert len(np.unique(results[0][1], axis=0)) == 16


def test_none_does_nothing_and_tells_nothing():
  off = AUGMENTATIONS["none"]()
  out, value = off.apply(NOISE, None)
  assert off.labels == 0 and value is None and out is NOISE


def test_a_line_of_pixels_is_refused():
  with pytest.raises(ConfigError, match="at least 2x2 pixels; these are 1x20"):
    augment.changed(NOISE[:, :1], change())
