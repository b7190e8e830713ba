"""The U-Net: size, start, parts, errors; what it shares with others is in test_every_model."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import MODELS
from diffjax.models.conditioning import OnTime, Table
from diffjax.models.layers import downsample, upsample
from diffjax.models.unet import Attention, ResBlock, UNet
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
CLASSES = (("class", functools.partial(Table, 6, name="classes")),)
TOLD = (("augment", lambda widths: OnTime(widths, name="augment")),)


def shapes(net, size=(8, 8), cond=None, colours=3):
  """Shapes of the parameters; raises what building the network raises."""
  x = jax.ShapeDtypeStruct((1, *size, colours), jnp.float32)
  time = jax.ShapeDtypeStruct((1,), jnp.float32)
  return jax.eval_shape(net.init, jax.random.key(0), x, time, cond or {})["params"]


def test_the_default_network_has_the_published_number_of_parameters():
  params = shapes(MODELS["unet"](), size=(32, 32))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 35_746_307


def test_the_branches_start_at_zero_and_so_does_the_output():
  net = UNet(**SMALL, conditions=CLASSES)
  rng = np.random.default_rng(0)
  given = {
    "x": jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32),
    "time": jnp.asarray(rng.uniform(0, 1000, 2), jnp.float32),
    "cond": {"class": jnp.asarray(rng.integers(0, 6, 2), jnp.int32)},
    "keys": jax.random.split(jax.random.key(0), 2),
  }
  init = jax.jit(net.init)(jax.random.key(0), given["x"], given["time"], given["cond"])["params"]
  silent = ("conv_1", "out", "conv_out")
  for path, leaf in jax.tree_util.tree_leaves_with_path(init):
    *_, layer, kind = (key.key for key in path)
    loud = kind in ("scale", "embedding") or (kind == "kernel" and layer not in silent)
    assert np.any(leaf) == loud, path
  apply = jax.jit(net.apply)
  np.testing.assert_array_equal(apply({"params": init}, **given), np.zeros_like(given["x"]))
  ones = jax.tree.map(jnp.ones_like, init["conv_out"])
  assert np.abs(apply({"params": {**init, "conv_out": ones}}, **given)).max() > 0.1


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
  out = jax.jit(layer.apply)({"params": jax.tree.map(np.float32, params)}, x)

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
  init = jax.jit(Attention(1, "float32").init)
  kernel = init(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))["params"]["qkv"]["kernel"]
  limit = np.sqrt(3 / 64)  # of a projection from 64 channels to 64
  assert 0.99 * limit < np.abs(kernel).max() <= limit


DDPMPP = {
  "multipliers": (2, 2, 2),
  "blocks": 4,
  "resample": "block",
  "skip_scale": 0.5**0.5,
  "attend_last": True,
}


def parameters_of_ddpmpp(c=128, m=2, levels=3, blocks=4, labels=9):
  """Counted by hand: Karras et al. 2022's DDPM++ with attention at the second level, from its description."""
  d, e = m * c, 4 * c  # channels of every level, and of the embedding
  conv = lambda a, b, k=3: k * k * a * b + b
  norm = lambda a: 2 * a

  def block(a, b, shortcut):
    return norm(a) + conv(a, b) + (e * b + b) + norm(b) + conv(b, b) + (conv(a, b, 1) if shortcut else 0)

  attention = norm(d) + conv(d, 3 * d, 1) + conv(d, d, 1)
  total = labels * c + conv(c, e, 1) + conv(e, e, 1) + conv(3, c)
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
  cond = {"augment": jax.ShapeDtypeStruct((1, 9), jnp.float32)}
  params = shapes(UNet(**DDPMPP, conditions=TOLD), (32, 32), cond)
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
  params = jax.jit(down.init)(jax.random.key(0), x, emb, None)["params"]
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
  means = x.reshape(2, 2, 2, 2, 2, 8).mean((2, 4))
  np.testing.assert_allclose(downsample(x), means, atol=1e-6)
  for block, resampled in ((down, means), (up, x.repeat(2, 1).repeat(2, 2))):
    out = jax.jit(block.apply)({"params": params}, x, emb, None)
    assert out.shape == resampled.shape
    shortcut = resampled @ params["shortcut"]["kernel"][0, 0] + params["shortcut"]["bias"]
    # with a silent first convolution the branch does not see the pixels
    silent = {**params, "conv_0": jax.tree.map(np.zeros_like, params["conv_0"])}
    branch = block.apply({"params": silent}, x, emb, None)
    own = {name: value for name, value in silent.items() if name != "shortcut"}
    rest = plain.apply({"params": own}, resampled, emb, None) - 0.5 * resampled
    np.testing.assert_allclose(branch, rest + 0.5 * shortcut, rtol=1e-4, atol=1e-4)
    assert np.abs(out - branch).max() > 0.1  # and otherwise it does


@pytest.mark.parametrize(
  "change, size, words",
  [
    ({"attention": (4, 7)}, (8, 8), "attention=(4, 7) names the size 7"),
    ({"attention": (16,)}, (8, 8), "the sizes are 8, 4"),
    ({}, (7, 8), "divisible by 2, but it is 7x8"),
    ({"multipliers": (1, 2, 2, 2)}, (8, 12), "divisible by 8, but it is 8x12"),
    ({"multipliers": ()}, (8, 8), "multipliers=()"),
    ({"channels": 7}, (8, 8), "channels=7"),
    ({"channels": 2}, (8, 8), "channels=2"),
    ({"blocks": 0}, (8, 8), "blocks=0"),
    ({"heads": 3}, (8, 8), "heads=3"),
    ({"heads": 0}, (8, 8), "heads=0"),
    ({"heads": 16, "attention": (8, 4)}, (8, 8), "one attention has 8"),
    ({"dropout": 1.0}, (8, 8), "dropout=1.0"),
    ({"dtype": "float8"}, (8, 8), "dtype='float8'"),
    ({"resample": "blocks"}, (8, 8), "resample='blocks' must be one of conv, block, bare_block"),
    (
      {"level_resamples": ("conv",)},
      (8, 8),
      "level_resamples=('conv',) must be one of conv, block, bare_block for each of",
    ),
    (
      {"level_resamples": ("conv", "no")},
      (8, 8),
      "level_resamples=('conv', 'no') must be one of conv, block",
    ),
    ({"attention_chunk": 4, "transformers": (1, 1)}, (8, 8), "attention_chunk=4 is of plain attention"),
  ],
)
def test_a_network_that_does_not_fit_is_a_clear_error(change, size, words):
  with pytest.raises(ConfigError, match=re.escape(words)):
    shapes(UNet(**{**TINY, **change}), size=size)


def test_blocks_are_as_many_as_each_level_says():
  like = lambda **options: shapes(MODELS["unet"](**{**TINY, **options}))
  assert jax.tree.structure(like(level_blocks=(1, 1))) == jax.tree.structure(like())
  results = {name for name in like(level_blocks=(0, 2)) if name.endswith("block")}
  levels = {"down_1_0", "down_1_1", "up_1_0", "up_1_1", "up_1_2", "up_0_0", "middle_0", "middle_1"}
  assert results == {f"{name}_block" for name in levels}  # halved before any block
  with pytest.raises(ConfigError, match=r"level_blocks=\(1,\) must be one number for each of the 2 levels"):
    like(level_blocks=(1,))
