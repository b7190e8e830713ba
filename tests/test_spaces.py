"""Every space there and back, and the fields that it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.source import Field
from diffjax.spaces import SPACES, of_pixels, to_pixels
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
FIELDS = {
  "image": Field((4, 6, 3), "uint8"),
  "video": Field((2, 4, 4, 1), "uint8"),
  "label": Field((), "int32", 10),
  "embedding": Field((7,), "float32"),
  "map": Field((3, 5), "float32"),
}
# (space, options) -> the field that it is of
CASES = [
  ("pixels", {}, "image"),
  ("pixels", {"field": "video", "std": 0.3}, "video"),
  ("vector", {}, "embedding"),
  ("vector", {"field": "map", "scale": 0.25, "std": 2.0}, "map"),
]
every_space = pytest.mark.parametrize("name, options, field", CASES)


def batch(count=5):
  """Fields of a few examples, the images among them of all 256 values."""

  def drawn(field):
    shape = (count, *field.shape)
    if field.dtype == "uint8":
      return RNG.permutation(np.resize(np.arange(256), np.prod(shape))).reshape(shape).astype(np.uint8)
    if field.dtype == "float32":
      return RNG.standard_normal(shape).astype(np.float32)
    return RNG.integers(0, field.classes, shape).astype(np.int32)

  return {name: jnp.asarray(drawn(field)) for name, field in FIELDS.items()}


def test_all_spaces_are_here():
  assert {name for name, *_ in CASES} == SPACES.keys()


@every_space
def test_decoding_undoes_encoding(name, options, field):
  space, data = SPACES[name](fields=FIELDS, **options), batch()
  x0 = jax.jit(lambda data: space.encode(data, None))(data)
  assert space.fields == (field,) and space.shape == FIELDS[field].shape
  assert x0.shape == (5, *space.shape) and x0.dtype == jnp.float32
  back = jax.jit(lambda x0: space.decode({}, x0))(x0)
  assert back.keys() == {field} and back[field].dtype == FIELDS[field].dtype
  if FIELDS[field].dtype == "uint8":
    np.testing.assert_array_equal(back[field], data[field])
  else:
    np.testing.assert_allclose(back[field], data[field], rtol=1e-6)
  far = {name: value * 100 if value.dtype == jnp.float32 else value for name, value in data.items()}
  assert space.bounded == (np.abs(space.encode(far, None)).max() < 1 + 1e-6)


@every_space
def test_what_is_observed_and_how_wide_the_data_are(name, options, field):
  space, data = SPACES[name](fields=FIELDS, **options), batch()
  observed = space.observed(data)
  if name == "pixels":  # a likelihood of pixels is of the integers
    np.testing.assert_array_equal(observed, data[field])
    assert observed.dtype == jnp.uint8
  else:
    np.testing.assert_array_equal(observed, space.encode(data, None))
    np.testing.assert_allclose(observed, np.asarray(data[field]) * options.get("scale", 1.0), rtol=1e-6)
  assert space.std == options.get("std", {"pixels": 0.5, "vector": 1.0}[name])


def test_all_pixel_values_come_back_and_lie_evenly_in_the_range():
  values = np.arange(256, dtype=np.uint8)
  x0 = of_pixels(values)
  np.testing.assert_allclose(x0, np.linspace(-1, 1, 256), atol=1e-6)
  np.testing.assert_array_equal(to_pixels(x0), values)
  np.testing.assert_array_equal(to_pixels(np.asarray(x0)), values)
  assert isinstance(to_pixels(np.asarray(x0)), np.ndarray)


def test_what_is_no_pixel_is_the_nearest_one():
  x = jnp.asarray([-3.0, -1.0, 1.0, 3.0, (127 + 0.4) / 127.5 - 1, (127 + 0.6) / 127.5 - 1])
  for found in (to_pixels(x), to_pixels(np.asarray(x))):
    np.testing.assert_array_equal(found, [0, 0, 255, 255, 127, 128])


@pytest.mark.parametrize(
  "name, field, fields, words",
  [
    ("pixels", "picture", FIELDS, "field is 'picture', but the data's uint8 fields are image, video"),
    ("pixels", "embedding", FIELDS, "field is 'embedding', but the data's uint8 fields are image, video"),
    ("pixels", "image", {"label": FIELDS["label"]}, "field is 'image', but the data have no uint8 field"),
    ("vector", "image", FIELDS, "field is 'image', but the data's float32 fields are embedding, map"),
    ("vector", "embedding", {"image": FIELDS["image"]}, "but the data have no float32 field"),
  ],
)
def test_a_field_that_cannot_be_is_refused_by_name(name, field, fields, words):
  with pytest.raises(ConfigError, match=words):
    SPACES[name](fields=fields, field=field)


@pytest.mark.parametrize("name, option", [("pixels", "std"), ("vector", "std"), ("vector", "scale")])
def test_ranges_hold_without_a_config(name, option):
  with pytest.raises(ConfigError, match=f"{option} is 0"):
    SPACES[name](fields=FIELDS, **{option: 0})
