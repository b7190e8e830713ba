"""Networks of videos: with one frame or none that sees another they are image networks, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models.conditioning import Planes, Table, Together
from diffjax.models.dit import DiT
from diffjax.models.layers import self_attention
from diffjax.models.space_time import REACH, TimeAttention, layered, unlayered
from diffjax.models.unet import UNet
from diffjax.types import ConfigError

TOLD = (
  ("class", functools.partial(Table, 3, name="classes")),
  ("given", lambda widths: Planes(name="given")),
  ("moving", lambda widths: Together(name="moving")),
)
NETS = {
  "unet": UNet(8, (1, 2), 1, attention=(8, 4), heads=2, dropout=0.3, out_channels=1, conditions=TOLD),
  "dit": DiT(2, tubelet=2, channels=16, blocks=2, heads=2, dropout=0.3, out_channels=1, conditions=TOLD),
  "dit-full": DiT(4, factorised=False, channels=16, blocks=1, heads=2, out_channels=1, conditions=TOLD),
}


@pytest.mark.parametrize(
  "channels, blocks, heads, published",
  [(384, 12, 6, 32.48), (768, 12, 12, 129.54), (1024, 24, 16, 456.81), (1152, 28, 16, 673.68)],
  ids=["S", "B", "L", "XL"],
)
def test_latte_has_the_published_number_of_parameters(channels, blocks, heads, published):
  """Latte/2 with blocks for space and time by turns, unconditional: millions, cut off (Ma et al. 2024, variant 1).

  UNet3DConditionModel (1.41 billion) is another network, with convolutions over time, and not built here.
  """
  net = DiT(patch=2, channels=channels, blocks=blocks, heads=heads, out_channels=8)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 32, 32, 4)), jnp.zeros(1))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) // 10**4 == round(100 * published)


def batch(count=2, frames=4, moving=True, seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda: jnp.asarray(rng.standard_normal((count, frames, 8, 8, 1)), jnp.float32)
  return {
    "x": normal(),
    "time": jnp.asarray(rng.uniform(0, 1000, count), jnp.float32),
    "cond": {"class": jnp.arange(count) % 3, "given": normal(), "moving": jnp.full(count, int(moving))},
    "keys": jax.random.split(jax.random.key(0), count),
  }


@functools.cache
def make(name):
  """(apply, its parameters, none of which is zero but the biases of distance)."""
  net, rng = NETS[name], np.random.default_rng(0)
  given = batch()
  start = jax.eval_shape(net.init, jax.random.key(0), given["x"], given["time"], given["cond"])["params"]
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) * 0.3, start)
  for part, values in params.items():
    if part.endswith("_time"):
      values["bias"][:] = 0
  apply = lambda p, g: net.apply({"params": p}, g["x"], g["time"], g["cond"], g["keys"])
  return jax.jit(apply), params


def frame(data, t):
  """Frame t of videos as images, or as videos of one frame where t is a slice."""
  cut = lambda value: value[:, t] if value.ndim == 5 else value
  return jax.tree.map(cut, data)


def permuted(data, order):
  return frame(data, np.asarray(order))


def test_with_one_frame_the_u_net_is_that_of_images_bit_for_bit():
  apply, params = make("unet")
  image_weights = {name: part for name, part in params.items() if not name.endswith("_time")}
  assert len(params) - len(image_weights) == 2 + 4 + 1  # after each attention
  as_they_start = jax.tree.map(jnp.zeros_like, params)
  joined = as_they_start | image_weights
  one = frame(batch(), slice(1))
  of_images = apply(image_weights, frame(one, 0))
  np.testing.assert_array_equal(apply(joined, one)[:, 0], of_images)
  assert np.abs(of_images).max() > 0.1


def test_the_time_layers_of_a_new_network_add_nothing():
  layer = TimeAttention(4, 2, "float32")
  x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 2, 2, 8)), jnp.float32)
  out, _ = layer.init_with_output(jax.random.key(0), x, None)
  np.testing.assert_array_equal(out, x)


def test_time_attention_is_its_equation():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((6, 1, 2, 4)).astype(np.float32)  # 2 videos of 3 frames of 2 places
  layer = TimeAttention(3, 2, "float32", groups=1)
  params = jax.eval_shape(layer.init, jax.random.key(0), x, None)["params"]
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
  normed = (x - x.mean((1, 2, 3), keepdims=True)) / np.sqrt(x.var((1, 2, 3), keepdims=True) + 1e-6)
  normed = normed * params["norm"]["scale"] + params["norm"]["bias"]
  projected = normed @ params["qkv"]["kernel"] + params["qkv"]["bias"]
  q, k, v = np.split(projected.reshape(2, 3, 2, 2 * 6).reshape(2, 3, 2, 12), 3, -1)
  want = np.zeros((2, 3, 2, 4))
  for n, head, place in np.ndindex(2, 2, 2):
    part = slice(2 * head, 2 * head + 2)
    for i in range(3):
      logits = [
        q[n, i, place, part] @ k[n, j, place, part] / np.sqrt(2) + params["bias"][head, j - i + REACH]
        for j in range(3)
      ]
      share = np.exp(logits) / np.exp(logits).sum()
      want[n, i, place, part] = share @ v[n, :, place, part]
  want = x + (want @ params["out"]["kernel"] + params["out"]["bias"]).reshape(x.shape)
  np.testing.assert_allclose(layer.apply({"params": params}, x, None), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["unet", "dit", "dit-full"])
def test_frames_that_are_apart_do_not_see_each_other(name):
  """All layers but attention over time are those of images, of [B T, H, W, C]: what is left is each frame by itself."""
  apply, params = make(name)
  together, still = batch(), batch(moving=False)
  still["cond"]["moving"] = jnp.asarray([1, 0])
  out = apply(params, still)
  np.testing.assert_allclose(out[0], apply(params, together)[0], atol=1e-5)
  changed = apply(params, {**still, "x": still["x"].at[:, 2:].add(1.0)})
  moved = np.abs(changed - out).max((2, 3, 4))
  assert (moved[1, :2] == 0).all() and (moved[0] > 1e-4).all() and (moved[:, 2:] > 1e-4).all()
  if name == "unet":  # each frame as it is by itself
    for t in range(4):
      alone = apply(params, frame(still, slice(t, t + 1)))
      np.testing.assert_allclose(out[1, t], alone[1, 0], atol=1e-5)


def test_no_gradient_passes_between_frames_that_are_apart():
  rng, layer = np.random.default_rng(0), TimeAttention(4, 2, "float32")
  x = jnp.asarray(rng.standard_normal((8, 1, 2, 4)), jnp.float32)  # a clip, and four stills
  together = jnp.asarray([True, False])
  start = jax.eval_shape(layer.init, jax.random.key(0), x, together)["params"]
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), start)
  of_frames = lambda x: jnp.square(layer.apply({"params": params}, x, together)).sum((1, 2, 3))
  slopes = np.abs(jax.jit(jax.jacrev(of_frames))(x)).max((2, 3, 4))
  reached = np.zeros((8, 8), bool)
  reached[:4, :4], reached[range(4, 8), range(4, 8)] = True, True
  np.testing.assert_array_equal(slopes > 0, reached)
  assert np.isfinite(slopes).all()


def test_without_places_in_time_frames_may_be_permuted():
  apply, params = make("unet")
  given, order = batch(), [2, 0, 3, 1]
  np.testing.assert_allclose(apply(params, permuted(given, order)), apply(params, given)[:, order], atol=1e-4)
  tilted = jax.tree.map(jnp.asarray, params)
  for part in tilted:
    if part.endswith("_time"):
      tilted[part] = {**tilted[part], "bias": jnp.linspace(-9, 9, 2 * (2 * REACH + 1)).reshape(2, -1)}
  gap = apply(tilted, permuted(given, order)) - apply(tilted, given)[:, order]
  assert np.abs(gap).max() > 0.002


def test_tubelets_and_back_are_the_identity():
  x = np.arange(2 * 6 * 2 * 3 * 2).reshape(2, 6, 2, 3, 2)
  flat = layered(x, 3)
  assert flat.shape == (4, 2, 3, 6)
  for c in range(6):
    np.testing.assert_array_equal(flat[1, ..., c], x[0, 3 + c // 2, ..., c % 2])
  np.testing.assert_array_equal(unlayered(flat, 6, 3), x)


def test_a_bias_of_minus_infinity_is_no_look():
  qkv = np.random.default_rng(0).standard_normal((2, 5, 12)).astype(np.float32)
  bias = np.zeros((5, 5))
  bias[:, 3:] = -np.inf
  some = self_attention(qkv[:, :3], 2)
  np.testing.assert_allclose(self_attention(qkv, 2, jnp.asarray(bias))[:, :3], some, atol=1e-6)


BIASES = {
  "all": None,
  "masked": np.triu(np.full((8, 8), -np.inf), 1),
  "of-examples": np.random.default_rng(1).standard_normal((2, 2, 8, 8)),
  "of-times": np.where(np.arange(2)[:, None, None, None] | np.eye(4, dtype=int), 0, -np.inf),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_chunks_of_queries_change_neither_values_nor_gradients(bias):
  rng = np.random.default_rng(0)
  qkv, weight = (jnp.asarray(rng.standard_normal((4, 8, c)), jnp.float32) for c in (12, 4))
  score = lambda x, chunk: jnp.vdot(weight, self_attention(x, 2, bias, chunk))
  values = {chunk: jax.jit(jax.value_and_grad(score), static_argnums=1)(qkv, chunk) for chunk in (0, 3)}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), values[3], values[0])
  if bias is not None and bias.ndim == 4:  # as it is when each example and place has its own
    whole = bias.repeat(2, 0).repeat(8 // bias.shape[2], 2).repeat(8 // bias.shape[3], 3)
    np.testing.assert_array_equal(self_attention(qkv, 2, bias), self_attention(qkv, 2, whole))


def test_logits_of_long_sequences_take_memory_by_the_chunk():
  length, heads, chunk = 512, 2, 32
  slope = jax.grad(lambda x, chunk: jnp.square(self_attention(x, heads, chunk=chunk)).sum())
  lowered = functools.partial(jax.jit(slope, static_argnums=1).lower, jnp.zeros((1, length, 12)))
  whole, less = (lowered(n).compile().memory_analysis().temp_size_in_bytes for n in (0, chunk))
  assert whole > 4 * heads * length**2 > 3 * less and whole > 8 * less


LOGITS = {  # [examples, heads, N, N], of 2 clips of 8 frames of 8x8, and of 1 head what joins them
  "unet": ("16,2,64,64", "16,2,16,16", "128,2,8,8", "32,2,8,8"),
  "dit": ("8,2,16,16", "32,2,4,4"),
  "dit-full": ("2,2,32,32", "2,1,32,32"),
}


@pytest.mark.parametrize("name", LOGITS)
def test_every_self_attention_of_a_network_is_cut_into_chunks(name):
  given, params = batch(frames=8), make(name)[1]

  def whole(chunk):
    net = NETS[name].clone(attention_chunk=chunk)
    program = str(jax.make_jaxpr(net.apply)({"params": params}, *given.values()))
    return [shape for shape in LOGITS[name] if f"f32[{shape}]" in program]

  assert whole(0) == [*LOGITS[name]] and not whole(3)


def test_tubelets_must_fit():
  given = batch(frames=3)
  with pytest.raises(ConfigError, match="tubelet=2 must divide the frames, which are 3"):
    jax.eval_shape(NETS["dit"].init, jax.random.key(0), given["x"], given["time"], given["cond"])
