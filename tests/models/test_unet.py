"""The network: size, start, independence of examples, switches, errors."""

import functools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import MODELS
from diffjax.models.layers import Dropout, downsample, upsample
from diffjax.models.unet import Attention, Embedding, ResBlock, UNet
from diffjax.types import ConfigError

TINY = {
  "channels": 8,
  "multipliers": (1, 2),
  "blocks": 1,
  "attention": (4,),
  "heads": 2,
  "dropout": 0.3,
}
SMALL = {**TINY, "multipliers": (1,), "attention": ()}
# Compiles in half the time of jax.jit, and networks this small run no slower.
fast_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LABELS = jax.ShapeDtypeStruct((1,), jnp.int32)


def shapes(net, size=(8, 8), cond=None, colours=3):
  """Shapes of the parameters; raises what building the network raises."""
  x = jax.ShapeDtypeStruct((1, *size, colours), jnp.float32)
  time = jax.ShapeDtypeStruct((1,), jnp.float32)
  return jax.eval_shape(net.init, jax.random.key(0), x, time, cond)["params"]


def random_params(net, cond=None):
  """Parameters none of which is zero: kernels N(0, 1/fan_in), scales and biases 0.2 N(0, 1) off."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    noise = rng.standard_normal(leaf.shape)
    if path[-1].key == "embedding":
      return jnp.asarray(noise, leaf.dtype)
    if path[-1].key == "kernel":
      return jnp.asarray(noise / np.sqrt(np.prod(leaf.shape[:-1])), leaf.dtype)
    return jnp.asarray((path[-1].key == "scale") + 0.2 * noise, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes(net, cond=cond))


def inputs(batch=4, size=8):
  rng = np.random.default_rng(0)
  return {
    "x": jnp.asarray(rng.standard_normal((batch, size, size, 3)), jnp.float32),
    "time": jnp.asarray(rng.uniform(0, 1000, batch), jnp.float32),
    "cond": jnp.asarray(rng.integers(0, 6, batch), jnp.int32),
    "keys": jax.random.split(jax.random.key(0), batch),
  }


def is_dropout(module, _):
  return isinstance(module, Dropout)


def masks_of(seen):
  """Layer's path -> [B, H, W, C], true where it dropped."""
  leaves = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
  return {"/".join(key.key for key in path[:-2]): leaf == 0 for path, leaf in leaves}


@functools.cache
def tiny():
  """A conditional network, random parameters, and (params, inputs) -> (output, masks), compiled."""
  net = UNet(**TINY, num_classes=5)

  @fast_jit
  def run(params, x, time, cond, keys):
    out, seen = net.apply({"params": params}, x, time, cond, keys, capture_intermediates=is_dropout)
    return out, masks_of(seen)

  return net, random_params(net, LABELS), run


def output(**inputs):
  _, params, run = tiny()
  return np.asarray(run(params, **inputs)[0])


def test_the_default_network_has_the_published_number_of_parameters():
  params = shapes(MODELS["unet"](), size=(32, 32))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 35_746_307


def test_the_branches_start_at_zero_and_so_does_the_output():
  net = UNet(**SMALL, num_classes=5)
  given = inputs(2, size=4)
  init = fast_jit(net.init)(jax.random.key(0), given["x"], given["time"], given["cond"])["params"]
  silent = ("conv_1", "out", "conv_out")
  for path, leaf in jax.tree_util.tree_leaves_with_path(init):
    *_, layer, kind = (key.key for key in path)
    loud = kind in ("scale", "embedding") or (kind == "kernel" and layer not in silent)
    assert np.any(leaf) == loud, path
  apply = fast_jit(net.apply)
  np.testing.assert_array_equal(apply({"params": init}, **given), np.zeros_like(given["x"]))
  ones = jax.tree.map(jnp.ones_like, init["conv_out"])
  assert np.abs(apply({"params": {**init, "conv_out": ones}}, **given)).max() > 0.1


def test_the_output_has_the_channels_and_the_sides_asked_for():
  net = UNet(**TINY, out_channels=6)
  params = shapes(net, size=(8, 16), colours=1)
  x, time = jnp.zeros((2, 8, 16, 1), jnp.bfloat16), jnp.zeros(2)
  out = jax.eval_shape(lambda p: net.apply({"params": p}, x, time), params)
  assert out.shape == (2, 8, 16, 6) and out.dtype == jnp.float32


def test_examples_do_not_see_each_other():
  given = inputs()
  out = output(**given)
  changed = output(**{**given, "x": given["x"].at[1].add(1), "time": given["time"].at[1].add(7)})
  np.testing.assert_array_equal(np.delete(changed, 1, axis=0), np.delete(out, 1, axis=0))
  assert np.abs(changed[1] - out[1]).max() > 0.01

  order = jnp.asarray([2, 0, 3, 1])
  permuted = output(**{name: value[order] for name, value in given.items()})
  np.testing.assert_allclose(permuted, out[order], atol=1e-5)

  alone = output(**{name: value[3:] for name, value in given.items()})
  np.testing.assert_allclose(alone[0], out[3], atol=1e-5)


def test_the_output_depends_on_everything_given():
  net, params, run = tiny()
  given = {**inputs(), "keys": None}
  out = output(**given)
  for name, value in [
    ("time", given["time"] + 5),
    ("time", given["time"] + 0.5),
    ("cond", (given["cond"] + 1) % 6),
  ]:
    change = np.abs(output(**{**given, name: value}) - out).max((1, 2, 3))
    assert change.min() > 0.003, name
  # A pixel reaches the opposite corner through attention.
  far = output(**{**given, "x": given["x"].at[:, 7, 7].add(5)})[:, 0, 0] - out[:, 0, 0]
  assert np.abs(far).max(-1).min() > 1e-3

  leaves, tree = jax.tree.flatten(params)
  for i, leaf in enumerate(leaves):
    noise = 0.5 * np.random.default_rng(i).standard_normal(leaf.shape).astype(np.float32)
    other = jax.tree.unflatten(tree, [*leaves[:i], leaf + noise, *leaves[i + 1 :]])
    path = jax.tree_util.tree_leaves_with_path(params)[i][0]
    assert np.abs(run(other, **given)[0] - out).max() > 1e-3, jax.tree_util.keystr(path)


def test_attention_is_softmax_of_scaled_products():
  heads, c = 2, 6
  rng = np.random.default_rng(0)
  layer = Attention(heads, "float32")
  x = rng.standard_normal((2, 3, 4, c)).astype(np.float32)
  params = {
    "norm": {"scale": jnp.ones(c), "bias": jnp.zeros(c)},
    "qkv": {"kernel": rng.standard_normal((1, 1, c, 3 * c)), "bias": rng.standard_normal(3 * c)},
    "out": {"kernel": rng.standard_normal((1, 1, c, c)), "bias": rng.standard_normal(c)},
  }
  out = fast_jit(layer.apply)({"params": jax.tree.map(np.float32, params)}, x)

  h = np.float64(x).reshape(2, 12, c)  # six channels are one group
  h = (h - h.mean((1, 2), keepdims=True)) / np.sqrt(h.var((1, 2), keepdims=True) + 1e-6)
  qkv = h @ params["qkv"]["kernel"][0, 0] + params["qkv"]["bias"]
  want = np.zeros_like(h)
  for head in range(heads):
    at = [slice(i * c + head * c // heads, i * c + (head + 1) * c // heads) for i in range(3)]
    query, key, value = (qkv[..., s] for s in at)
    weight = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(c // heads))
    want[..., at[0]] = weight / weight.sum(-1, keepdims=True) @ value
  want = x + (want @ params["out"]["kernel"][0, 0] + params["out"]["bias"]).reshape(x.shape)
  np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)


def test_the_three_projections_of_attention_start_as_three_separate_ones():
  init = fast_jit(Attention(1, "float32").init)
  kernel = init(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))["params"]["qkv"]["kernel"]
  limit = np.sqrt(3 / 64)  # of a projection from 64 channels to 64
  assert 0.99 * limit < np.abs(kernel).max() <= limit


def test_bfloat16_keeps_float32_parameters_and_comes_near_the_float32_output():
  net, params, _ = tiny()
  half = net.clone(dtype="bfloat16")
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes(half, cond=LABELS)))
  given = inputs()
  exact = output(**given)
  rough = fast_jit(half.apply)({"params": params}, *given.values())
  assert rough.dtype == jnp.float32
  error = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
  assert 1e-4 < error < 0.03  # bfloat16 rounds by up to 2^-9 = 0.002 in each of some 20 layers


def test_remat_changes_neither_tree_nor_masks_nor_numbers():
  net = UNet(**SMALL)
  x, time, _, keys = inputs(2, size=4).values()
  params = random_params(net)

  def loss(p, n):
    out, seen = n.apply({"params": p}, x, time, None, keys, capture_intermediates=is_dropout)
    return jnp.sum(out**2), (out, masks_of(seen))

  def run(n):
    (_, (out, masks)), grads = fast_jit(lambda p: jax.value_and_grad(loss, has_aux=True)(p, n))(params)
    return out, masks, grads

  other = net.clone(remat=True)
  assert jax.tree.structure(shapes(other)) == jax.tree.structure(params)
  out, masks, grads = run(net)
  out_remat, masks_remat, grads_remat = run(other)
  np.testing.assert_allclose(out_remat, out, rtol=1e-5, atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, masks_remat, masks)
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  for a, b in zip(jax.tree.leaves(grads_remat), jax.tree.leaves(grads), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)


def test_every_block_drops_by_its_own_path_and_each_example_by_its_own_key():
  _, params, run = tiny()
  given = inputs()
  _, masks = run(params, **given)
  assert len(masks) == 8  # down 1 + 1, middle 2, up 2 + 2
  for path, mask in masks.items():
    for i, key in enumerate(given["keys"]):
      own = jax.random.fold_in(key, zlib.crc32(path.encode()))
      want = ~jax.random.bernoulli(own, jnp.float32(0.7), (mask[i].size,)).reshape(mask[i].shape)
      np.testing.assert_array_equal(mask[i], want)
  by_shape = {}
  for mask in masks.values():
    by_shape.setdefault(mask.shape, []).append(np.ravel(mask))
  for same in by_shape.values():
    assert len(np.unique(same, axis=0)) == len(same)


def test_without_keys_or_rate_nothing_is_drawn():
  net, params, _ = tiny()
  given = inputs()
  still = output(**{**given, "keys": None})
  assert np.abs(output(**given) - still).max() > 0.01

  def draws(net, keys):
    given_ = (given["x"], given["time"], given["cond"], keys)
    return "random_bits" in str(jax.make_jaxpr(net.apply)({"params": params}, *given_))

  assert draws(net, given["keys"])
  assert not draws(net, None)
  assert not draws(net.clone(dropout=0.0), given["keys"])


def test_the_embedding_adds_the_label_s_row_and_scales_the_time():
  time, cond = jnp.asarray([0.0, 3.0, 400.0]), jnp.asarray([5, 0, 4], jnp.int32)
  plain, labelled = Embedding(8, 0, 1.0), Embedding(8, 5, 1.0)
  params = fast_jit(labelled.init)(jax.random.key(0), time, cond)["params"]
  table = np.asarray(params["classes"]["embedding"])
  assert table.shape == (6, 32)  # five classes and the null class
  dense = {name: params[name] for name in ("dense_0", "dense_1")}
  base = plain.apply({"params": dense}, time, None)
  assert base.dtype == jnp.float32
  out = labelled.apply({"params": params}, time, cond)
  np.testing.assert_allclose(out, base + table[np.asarray(cond)], atol=1e-6)

  scaled = Embedding(8, 0, 25.0).apply({"params": dense}, time / 25, None)
  np.testing.assert_allclose(scaled, base, atol=1e-4)


DDPMPP = {
  "multipliers": (2, 2, 2),
  "blocks": 4,
  "resample": "block",
  "skip_scale": 0.5**0.5,
  "attend_last": True,
}


def parameters_of_ddpmpp(c=128, m=2, levels=3, blocks=4, told=9):
  """Counted by hand: Karras et al. 2022's DDPM++ with attention at the second level, from its description."""
  d, e = m * c, 4 * c  # channels of every level, and of the embedding
  conv = lambda a, b, k=3: k * k * a * b + b
  norm = lambda a: 2 * a

  def block(a, b, shortcut):
    return norm(a) + conv(a, b) + (e * b + b) + norm(b) + conv(b, b) + (conv(a, b, 1) if shortcut else 0)

  attention = norm(d) + conv(d, 3 * d, 1) + conv(d, d, 1)
  total = told * c + conv(c, e, 1) + conv(e, e, 1) + conv(3, c)
  skips, width = [c], c
  for level in range(levels):
    if level:
      total, skips = total + block(d, d, True), [*skips, d]
    for _ in range(blocks):
      total += block(width, d, width != d) + (attention if level == 1 else 0)
      skips, width = [*skips, d], d
  total += 2 * block(d, d, False) + attention
  for level in reversed(range(levels)):
    total += sum(block(d + skips.pop(), d, True) for _ in range(blocks + 1)) + (
      attention if level == 1 else 0
    )
    total += block(d, d, True) if level else norm(d) + conv(d, 3)
  assert not skips
  return total


def test_ddpmpp_has_as_many_parameters_as_its_description():
  params = shapes(UNet(**DDPMPP, augment_labels=9), size=(32, 32))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters_of_ddpmpp() == 55_733_891
  assert not [name for name in params if "attention" in name and re.match("up_1_[0-3]|[a-z]+_[02]_", name)]
  assert {"up_1_4_attention", "middle_attention", "down_1_0_attention"} < params.keys()


def test_a_block_that_resamples_is_its_parts():
  rng = np.random.default_rng(0)
  x, emb = (
    rng.standard_normal((2, 4, 4, 8)).astype(np.float32),
    rng.standard_normal((2, 6)).astype(np.float32),
  )
  down, up, plain = (ResBlock(8, 0.0, "float32", 0.5, how) for how in (downsample, upsample, None))
  params = fast_jit(down.init)(jax.random.key(0), x, emb, None)["params"]
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
  means = x.reshape(2, 2, 2, 2, 2, 8).mean((2, 4))
  np.testing.assert_allclose(downsample(x), means, atol=1e-6)
  for block, resampled in ((down, means), (up, x.repeat(2, 1).repeat(2, 2))):
    out = fast_jit(block.apply)({"params": params}, x, emb, None)
    assert out.shape == resampled.shape
    shortcut = resampled @ params["shortcut"]["kernel"][0, 0] + params["shortcut"]["bias"]
    # with a silent first convolution the branch does not see the pixels
    silent = {**params, "conv_0": jax.tree.map(np.zeros_like, params["conv_0"])}
    branch = block.apply({"params": silent}, x, emb, None)
    own = {name: value for name, value in silent.items() if name != "shortcut"}
    rest = plain.apply({"params": own}, resampled, emb, None) - 0.5 * resampled
    np.testing.assert_allclose(branch, rest + 0.5 * shortcut, rtol=1e-4, atol=1e-4)
    assert np.abs(out - branch).max() > 0.1  # and otherwise it does


def test_the_network_is_told_of_an_augmentation_and_no_word_is_zeros():
  net = UNet(**{**SMALL, "dropout": 0.0}, augment_labels=3)
  params = {"params": random_params(net)}
  x, time, *_ = inputs(3, size=4).values()
  run = fast_jit(lambda told: net.apply(params, x, time, None, None, told))
  out = run(jnp.zeros((3, 3)))
  np.testing.assert_allclose(fast_jit(net.apply)(params, x, time), out, atol=1e-6)
  change = np.abs(run(jnp.float32([[0, 0, 0], [1, 0, 0], [0, 0, 1]])) - out).max((1, 2, 3))
  assert change[0] == 0 and change[1:].min() > 1e-3


@pytest.mark.parametrize(
  "change, size, cond, words",
  [
    ({"attention": (4, 7)}, (8, 8), None, "attention=(4, 7) names the size 7"),
    ({"attention": (16,)}, (8, 8), None, "the sizes are 8, 4"),
    ({}, (7, 8), None, "divisible by 2, but it is 7x8"),
    ({"multipliers": (1, 2, 2, 2)}, (8, 12), None, "divisible by 8, but it is 8x12"),
    ({"multipliers": ()}, (8, 8), None, "multipliers=()"),
    ({"channels": 7}, (8, 8), None, "channels=7"),
    ({"channels": 2}, (8, 8), None, "channels=2"),
    ({"blocks": 0}, (8, 8), None, "blocks=0"),
    ({"heads": 3}, (8, 8), None, "heads=3"),
    ({"heads": 0}, (8, 8), None, "heads=0"),
    ({"heads": 16, "attention": (8, 4)}, (8, 8), None, "one attention has 8"),
    ({"dropout": 1.0}, (8, 8), None, "dropout=1.0"),
    ({"num_classes": -1}, (8, 8), None, "num_classes=-1"),
    ({"dtype": "float8"}, (8, 8), None, "dtype='float8'"),
    ({"resample": "blocks"}, (8, 8), None, "resample='blocks' must be one of conv, block"),
    ({}, (8, 8), LABELS, "num_classes=0 makes an unconditional model, but cond was given"),
    ({"num_classes": 5}, (8, 8), None, "num_classes=5 makes a conditional model, but cond"),
  ],
)
def test_a_network_that_does_not_fit_is_a_clear_error(change, size, cond, words):
  with pytest.raises(ConfigError, match=re.escape(words)):
    shapes(UNet(**{**TINY, **change}), size=size, cond=cond)
