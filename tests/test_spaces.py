"""Every space there and back, and the fields that it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.data.encoded import Moments, frozen
from diffjax.data.source import Field
from diffjax.spaces import SPACES, of_pixels, to_pixels
from diffjax.types import ConfigError, Trained

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
  ("pixels", {"scale": 2.5, "shift": -0.9}, "image"),
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
  assert {name for name, *_ in CASES} | {"latent", "reduced"} == SPACES.keys()


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
  assert space.std == options.get("std", {"pixels": 0.5, "vector": 1.0}[name])
  if "shift" in options:  # of scaled pixels nothing is
    assert space.observed is None
    return
  observed = space.observed(data)
  if name == "pixels":  # a likelihood of pixels is of the integers
    np.testing.assert_array_equal(observed, data[field])
    assert observed.dtype == jnp.uint8
  else:
    np.testing.assert_array_equal(observed, space.encode(data, None))
    np.testing.assert_allclose(observed, np.asarray(data[field]) * options.get("scale", 1.0), rtol=1e-6)


@pytest.mark.parametrize("name, options", [("pixels", {}), ("reduced", {"factor": 2})])
def test_scaled_pictures_are_those_in_the_range_less_the_shift_times_the_scale(name, options):
  plain, scaled = (
    SPACES[name](fields=FIELDS, **options, **more) for more in ({}, {"scale": 2.5, "shift": -0.9})
  )
  data = batch() | {"index": jnp.arange(5)}
  x0, value = (np.asarray(space.encode(data, None)) for space in (plain, scaled))
  np.testing.assert_allclose(value, 2.5 * (x0 + 0.9), rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(scaled.decode({}, value)["image"], plain.decode({}, x0)["image"])
  assert plain.bounded and not scaled.bounded


def test_all_pixel_values_come_back_and_lie_evenly_in_the_range():
  values = np.arange(256, dtype=np.uint8)
  x0 = of_pixels(values)
  np.testing.assert_allclose(x0, np.linspace(-1, 1, 256), atol=1e-6)
  np.testing.assert_array_equal(to_pixels(x0), values)
  np.testing.assert_array_equal(to_pixels(np.asarray(x0)), values)
  assert isinstance(to_pixels(np.asarray(x0)), np.ndarray)


def test_what_is_no_pixel_is_the_nearest_one():
  x = jnp.asarray([-3.0, -1.0, 1.0, 3.0, (127 + 0.4) / 127.5 - 1, (127 + 0.6) / 127.5 - 1])
  for result in (to_pixels(x), to_pixels(np.asarray(x))):
    np.testing.assert_array_equal(result, [0, 0, 255, 255, 127, 128])


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


MEAN, DEVIATION = np.linspace(-1, 1, 12, dtype=np.float32), np.linspace(0.5, 2, 12, dtype=np.float32)


def folded(params, images):
  """2x2 pixels as 12 channels, times a parameter: a latent that loses nothing, and how sure it is."""
  x = of_pixels(images).reshape(-1, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2, 3, 12)
  return {"mean": params["scale"] * x, "std": jnp.full_like(x, 0.25)}


def unfolded(params, z):
  return (z / params["scale"]).reshape(-1, 2, 3, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6, 3)


CAN = {"encode": folded, "decode": unfolded, "statistics": lambda params: (MEAN, DEVIATION)}
RUN = Trained("runs/vae", CAN, {"scale": jnp.float32(3)}, "0123")


def test_the_latent_space_goes_through_the_run_s_autoencoder():
  space, data = SPACES["latent"](fields=FIELDS, run=RUN, std=1.5), batch()
  assert space.shape == (2, 3, 12) and space.std == 1.5 and not space.bounded and space.observed is None
  assert space.fields == ("latent_mean", "latent_std") and space.encodings["latent"].field == "image"
  parts = space.encodings["latent"](RUN.params, data["image"])
  encoded = {f"latent_{part}": value for part, value in parts.items()}
  x0 = space.encode(encoded, None)
  np.testing.assert_allclose(x0 * DEVIATION + MEAN, folded(RUN.params, data["image"])["mean"], atol=1e-5)
  back = space.decode({"runs/vae": RUN.params}, x0)
  np.testing.assert_array_equal(back["image"], data["image"])
  # with the parameters that it is given, not those that it was made with
  other = space.decode({"runs/vae": {"scale": jnp.float32(6)}}, x0)["image"]
  np.testing.assert_allclose(of_pixels(other), of_pixels(data["image"]) / 2, atol=1 / 127)


def test_latents_are_drawn_from_their_gaussian_by_the_example_s_key():
  space = SPACES["latent"](fields=FIELDS, run=RUN)
  data = {"latent_mean": jnp.ones((500, 2, 3, 12)), "latent_std": jnp.full((500, 2, 3, 12), 0.25)}
  draws = keys.Draws(keys.seed(0), jnp.arange(500), 500)
  x0 = space.encode(data, draws)
  z = np.asarray((x0 * DEVIATION + MEAN - 1) / 0.25)
  assert abs(z.mean()) < 4 / np.sqrt(z.size) and abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
  rows = np.array([33, 4, 270])
  part = {name: value[rows] for name, value in data.items()}
  some = space.encode(part, keys.Draws(keys.seed(0), jnp.asarray(rows), 500))
  np.testing.assert_array_equal(some, x0[rows])


def test_a_run_that_is_no_autoencoder_is_refused():
  run = RUN._replace(can={what: done for what, done in CAN.items() if what != "decode"})
  with pytest.raises(ConfigError, match="run is 'runs/vae', which cannot decode"):
    SPACES["latent"](fields=FIELDS, run=run)
  with pytest.raises(ConfigError, match="field is 'embedding', but the data's uint8 fields are image, video"):
    SPACES["latent"](fields=FIELDS, run=RUN, field="embedding")


def identity(params, images):
  """Pixels are the latent, which is certain of them."""
  x = of_pixels(images)
  return {"mean": x, "std": jnp.zeros_like(x)}


CERTAIN = {"encode": identity, "decode": lambda params, z: z, "statistics": lambda params: (0.0, 1.0)}


def encoded(space, data):
  """The fields that the space needs, made of the data's."""
  return {
    f"{name}_{part}": value
    for name, encoding in space.encodings.items()
    for part, value in encoding(encoding.run.params, data["image"]).items()
  }


def test_the_latent_space_of_an_identity_is_that_of_pixels_bit_for_bit():
  latent, pixels = (
    SPACES["latent"](fields=FIELDS, run=RUN._replace(can=CERTAIN)),
    SPACES["pixels"](fields=FIELDS),
  )
  data, draws = batch(), keys.Draws(keys.seed(0), jnp.arange(5), 5)
  for given in (None, draws):
    x0 = latent.encode(encoded(latent, data), given)
    np.testing.assert_array_equal(x0, pixels.encode(data, given))
  np.testing.assert_array_equal(latent.decode({RUN.place: RUN.params}, x0)["image"], data["image"])
  assert latent.shape == pixels.shape


def test_both_views_of_a_mirrored_picture_are_drawn():
  space = SPACES["latent"](fields=FIELDS, run=RUN._replace(can=CERTAIN), mirrored=True)
  data, draws = batch(64), keys.Draws(keys.seed(0), jnp.arange(64), 64)
  fields = encoded(space, data)
  assert set(space.fields) == set(fields) == {"latent_mean", "latent_std", "mirrored_mean", "mirrored_std"}
  x, x0 = of_pixels(data["image"]), space.encode(fields, draws)
  straight = np.asarray((x0 == x).all((1, 2, 3)))
  np.testing.assert_array_equal(np.asarray(x0)[~straight], np.asarray(x)[~straight][:, :, ::-1])
  assert 16 < straight.sum() < 48
  np.testing.assert_array_equal(space.encode(fields, None), x)  # held out, a picture is as it is


def test_latents_of_which_nothing_is_known_are_measured_and_decoded_by_what_was_found():
  can = {what: done for what, done in CAN.items() if what != "statistics"}
  space, data = SPACES["latent"](fields=FIELDS, run=RUN._replace(can=can), mirrored=True), batch()
  assert {each.moments for each in space.encodings.values()} == {"latent"}
  given = SPACES["latent"](fields=FIELDS, run=RUN, scale=0.18215)
  assert {each.moments for each in given.encodings.values()} == {""}
  x0 = (folded(RUN.params, data["image"])["mean"] - MEAN) / DEVIATION
  results = {"latent": Moments(MEAN, DEVIATION)}
  back = space.decode({RUN.place: RUN.params, **frozen(results)}, x0)
  np.testing.assert_array_equal(back["image"], data["image"])
  # what stands in a batch is there already
  np.testing.assert_array_equal(space.encode({"latent_mean": x0, "latent_std": 0 * x0}, None), x0)


def test_a_given_scale_takes_the_place_of_statistics():
  space, data = SPACES["latent"](fields=FIELDS, run=RUN, scale=0.18215, shift=0.1), batch()
  fields = encoded(space, data)
  x0 = space.encode(fields, None)
  np.testing.assert_allclose(x0, 0.18215 * (fields["latent_mean"] - 0.1), rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(space.decode({RUN.place: RUN.params}, x0)["image"], data["image"])


def test_a_vector_is_what_a_run_makes_of_pictures():
  run = Trained("runs/clip", {"encode": lambda params, x: x[:, :3, 0, 0] * params}, jnp.float32(0.1), "0123")
  space, data = SPACES["vector"](FIELDS, "seen", run=run, scale=2.0), batch()
  assert space.shape == (3,) and space.fields == ("seen",) and not space.bounded
  seen = space.encodings["seen"](run.params, data["image"])[""]
  np.testing.assert_allclose(space.encode({"seen": seen}, None), 0.2 * data["image"][:, :3, 0, 0], rtol=1e-5)
  np.testing.assert_allclose(space.decode({}, space.encode({"seen": seen}, None))["seen"], seen, rtol=1e-6)
  with pytest.raises(
    ConfigError, match="encodes pictures as seen_mean .* and not as vectors; name one of the task"
  ):
    SPACES["vector"](FIELDS, "seen", run=RUN)
