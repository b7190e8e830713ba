"""What every network keeps to: shapes, independent examples, conditions that enter in every way, switches."""

import functools
import inspect
import re
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import ENCODERS, MODELS
from diffjax.models.conditioning import Embedded, OnTime, Projected, Table, Widths
from diffjax.models.layers import Dense, Dropout
from diffjax.types import ConfigError

UNET = {
  "channels": 8,
  "multipliers": (1, 2),
  "blocks": 1,
  "attention": (4,),
  "heads": 2,
  "dropout": 0.3,
}
OPTIONS = {
  "unet": UNET,
  "dit": {"patch": 2, "channels": 16, "blocks": 2, "heads": 2, "dropout": 0.3},
  "prior": {"channels": 16, "blocks": 1, "heads": 2, "dropout": 0.3},
  "unet_encoder": UNET,
}
SMALLER = {
  "unet": {"multipliers": (1,), "attention": ()},
  "dit": {"blocks": 1},
  "prior": {"dropout": 0.3},
  "unet_encoder": {"multipliers": (1,), "attention": ()},
}
DROPOUTS = {"unet": 8, "dit": 4, "prior": 2, "unet_encoder": 3}  # layers, by hand
NETWORKS = MODELS | ENCODERS
every_network = pytest.mark.parametrize("name", NETWORKS)


class Words(nn.Module):
  """Tokens [B, L, n] and their mask [B, L]."""

  widths: Widths

  @nn.compact
  def __call__(self, value):
    words, mask = value
    return Embedded(tokens=(Dense(self.widths.tokens, name="dense")(words), mask))


class Picture(nn.Module):
  """Planes as they are."""

  @nn.compact
  def __call__(self, value):
    return Embedded(planes=value)


EMBEDS = (
  ("class", functools.partial(Table, 6, name="classes")),
  ("vector", lambda widths: Projected(widths, name="vector")),
  ("several", lambda widths: Projected(widths, 2, name="several")),
  ("told", lambda widths: OnTime(widths, name="told")),
  ("words", lambda widths: Words(widths, name="words")),
  ("picture", lambda widths: Picture(name="picture")),
)
CHANGES = {
  "class": lambda value: (value + 1) % 6,
  "vector": lambda value: value + 1,
  "several": lambda value: value + 1,
  "told": lambda value: value + 1,
  "words": lambda value: (value[0] + 1, value[1]),
  "picture": lambda value: value + 1,
}


def make(name, outputs=2, conditions=EMBEDS, **options):
  request = {"outputs" if name in ENCODERS else "out_channels": outputs}
  return NETWORKS[name](**request, conditions=conditions, **{**OPTIONS[name], **options})


def inputs(batch=4, height=8, width=8):
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.standard_normal((batch, *shape)), jnp.float32)
  mask = jnp.asarray([[True, True, False], [True, False, False], [False, True, True], [True, False, True]])
  return {
    "x": normal(height, width, 3),
    "time": jnp.asarray(rng.uniform(0, 1000, batch), jnp.float32),
    "cond": {
      "class": jnp.asarray(rng.integers(0, 6, batch), jnp.int32),
      "vector": normal(5),
      "several": normal(5),
      "told": normal(4),
      "words": (normal(3, 7), mask[:batch]),
      "picture": normal(height, width, 1),
    },
    "keys": jax.random.split(jax.random.key(0), batch),
  }


def shapes(net, given):
  return jax.eval_shape(net.init, jax.random.key(0), given["x"], given["time"], given["cond"])["params"]


def random_params(net, given):
  """Parameters none of which is zero: kernels N(0, 1/fan_in), scales and biases 0.2 N(0, 1) off."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    noise = rng.standard_normal(leaf.shape)
    if path[-1].key == "embedding":
      return jnp.asarray(noise, leaf.dtype)
    if path[-1].key == "kernel":
      return jnp.asarray(noise / np.sqrt(np.prod(leaf.shape[:-1])), leaf.dtype)
    return jnp.asarray((path[-1].key == "scale") + 0.2 * noise, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes(net, given))


def is_dropout(module, _):
  return isinstance(module, Dropout)


def masks_of(seen):
  """Layer's path -> [B, ...], true where it dropped."""
  leaves = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
  return {"/".join(key.key for key in path[:-2]): leaf == 0 for path, leaf in leaves}


@functools.cache
def build(name):
  """A network told in every way, random parameters, and (params, inputs) -> (output, masks), compiled."""
  net = make(name)

  @jax.jit
  def run(params, x, time, cond, keys):
    out, seen = net.apply({"params": params}, x, time, cond, keys, capture_intermediates=is_dropout)
    return out, masks_of(seen)

  return net, random_params(net, inputs()), run


def output(name, given):
  _, params, run = build(name)
  return np.asarray(run(params, **given)[0])


def largest(difference):
  """[B]: of every example."""
  return np.abs(difference).reshape(len(difference), -1).max(1)


def test_all_networks_are_here():
  assert OPTIONS.keys() == SMALLER.keys() == DROPOUTS.keys() == NETWORKS.keys()
  assert not MODELS.keys() & ENCODERS.keys()
  assert CHANGES.keys() == dict(EMBEDS).keys()


@every_network
def test_the_output_has_the_shape_asked_for_and_is_float32(name):
  for net in (make(name, 6), make(name, 6, conditions=()), make(name, 6, dtype="bfloat16")):
    given = inputs(2, 8, 16)
    given["cond"] = {kind: given["cond"][kind] for kind, _ in net.conditions}
    params = shapes(net, given)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    given["x"] = given["x"].astype(jnp.bfloat16)
    apply = lambda p, g, net=net: net.apply({"params": p}, g["x"], g["time"], g["cond"], g["keys"])
    out = jax.eval_shape(apply, params, given)
    assert out.dtype == jnp.float32
    assert out.shape == ((2, 6) if name in ENCODERS else (2, 8, 16, 6))


@every_network
def test_examples_do_not_see_each_other(name):
  given = inputs()
  out = output(name, given)
  changed = output(name, {**given, "x": given["x"].at[1].add(1), "time": given["time"].at[1].add(7)})
  np.testing.assert_array_equal(np.delete(changed, 1, axis=0), np.delete(out, 1, axis=0))
  assert largest(changed - out)[1] > 0.01

  order = np.asarray([2, 0, 3, 1])
  permuted = output(name, jax.tree.map(lambda value: value[order], given))
  np.testing.assert_allclose(permuted, out[order], atol=1e-5)

  alone = output(name, jax.tree.map(lambda value: value[3:], given))
  np.testing.assert_allclose(alone[0], out[3], atol=1e-5)


@every_network
@pytest.mark.parametrize("kind", CHANGES)
def test_a_condition_reaches_the_output_of_its_example_alone(name, kind):
  given = inputs()
  out, value = output(name, given), given["cond"][kind]
  other = jax.tree.map(lambda old, new: old.at[1].set(new[1]), value, CHANGES[kind](value))
  changed = output(name, {**given, "cond": {**given["cond"], kind: other}})
  np.testing.assert_array_equal(np.delete(changed, 1, axis=0), np.delete(out, 1, axis=0))
  assert largest(changed - out)[1] > 0.003


@every_network
def test_a_token_counts_where_its_mask_is_true_and_nowhere_else(name):
  given = inputs()
  out, (words, mask) = output(name, given), given["cond"]["words"]

  def change(words, mask=mask):
    return output(name, {**given, "cond": {**given["cond"], "words": (words, mask)}})

  noise = jnp.asarray(np.random.default_rng(1).standard_normal(words.shape), jnp.float32)
  np.testing.assert_array_equal(change(jnp.where(mask[..., None], words, 100 * noise)), out)
  for place in range(3):
    changed = largest(change(words.at[:, place].add(noise[:, place])) - out)
    np.testing.assert_array_equal(changed > 1e-3, mask[:, place])
    np.testing.assert_array_equal(changed > 0, mask[:, place])
  assert largest(change(words, jnp.ones_like(mask)) - out).min() > 1e-4


@every_network
def test_the_output_depends_on_everything_else_given(name):
  _, params, run = build(name)
  given = inputs()
  out, least = output(name, given), 0.003 if name in MODELS else 0.001  # a mean over the pixels changes less
  for step in (5, 0.5):
    assert largest(output(name, {**given, "time": given["time"] + step}) - out).min() > least
  for corner in ((0, 0), (7, 7)):
    assert largest(output(name, {**given, "x": given["x"].at[:, *corner].add(5)}) - out).min() > 1e-3
  if name in MODELS:  # a pixel reaches the opposite corner
    far = output(name, {**given, "x": given["x"].at[:, 7, 7].add(5)})[:, 0, 0] - out[:, 0, 0]
    assert largest(far).min() > 1e-3

  leaves, tree = jax.tree.flatten(params)
  for i, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
    if [key.key for key in path[-2:]] == ["key", "bias"]:
      continue  # adds the same to all logits of a query, which the softmax does not see
    noise = 0.5 * np.random.default_rng(i).standard_normal(leaf.shape).astype(np.float32)
    other = jax.tree.unflatten(tree, [*leaves[:i], leaf + noise, *leaves[i + 1 :]])
    assert np.abs(run(other, **given)[0] - out).max() > 1e-3, jax.tree_util.keystr(path)


@every_network
def test_every_layer_drops_by_its_own_path_and_each_example_by_its_own_key(name):
  _, params, run = build(name)
  given = inputs()
  _, masks = run(params, **given)
  assert len(masks) == DROPOUTS[name]
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

  other = {**given, "keys": given["keys"].at[1].set(jax.random.key(7))}
  changed = largest(output(name, other) - output(name, given))
  assert changed[1] > 0.003 and np.delete(changed, 1).max() == 0


@every_network
def test_without_keys_or_rate_nothing_is_drawn(name):
  net, params, _ = build(name)
  given = inputs()

  def draws(net, keys):
    return "random_bits" in str(
      jax.make_jaxpr(net.apply)({"params": params}, given["x"], given["time"], given["cond"], keys)
    )

  assert draws(net, given["keys"])
  assert not draws(net, None)
  assert not draws(net.clone(dropout=0.0), given["keys"])


@every_network
def test_bfloat16_comes_near_the_float32_output(name):
  net, params, _ = build(name)
  given = inputs()
  exact = output(name, given)
  assert "bf16" not in str(jax.make_jaxpr(net.apply)({"params": params}, *given.values()))
  rough = jax.jit(net.clone(dtype="bfloat16").apply)({"params": params}, *given.values())
  error = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
  assert 1e-4 < error < 0.03  # bfloat16 rounds by up to 2^-9 = 0.002 in each of some 20 layers


def remats():
  return [name for name in NETWORKS if "remat" in inspect.signature(NETWORKS[name]).parameters]


@pytest.mark.parametrize("name", remats())
def test_remat_changes_neither_tree_nor_masks_nor_numbers(name):
  assert {*MODELS} <= {*remats()}
  net, given = make(name, conditions=EMBEDS[4:5], **SMALLER[name]), inputs(2, 4, 4)
  given["cond"] = {"words": given["cond"]["words"]}
  params = random_params(net, given)

  def loss(p, n):
    out, seen = n.apply({"params": p}, *given.values(), capture_intermediates=is_dropout)
    return jnp.sum(out**2), (out, masks_of(seen))

  def run(n):
    (_, (out, masks)), grads = jax.jit(lambda p: jax.value_and_grad(loss, has_aux=True)(p, n))(params)
    return out, masks, grads

  other = net.clone(remat=True)
  assert jax.tree.structure(shapes(other, given)) == jax.tree.structure(params)
  count = lambda n: str(jax.make_jaxpr(lambda p: loss(p, n)[0])(params)).count("remat")
  assert count(other) > count(net) == 0
  out, masks, grads = run(net)
  out_remat, masks_remat, grads_remat = run(other)
  np.testing.assert_allclose(out_remat, out, rtol=1e-5, atol=1e-5)
  assert masks
  jax.tree.map(np.testing.assert_array_equal, masks_remat, masks)
  most = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  for a, b in zip(jax.tree.leaves(grads_remat), jax.tree.leaves(grads), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * most)


@every_network
def test_other_conditions_than_the_network_s_are_refused(name):
  given = inputs()
  everything = given["cond"]
  less = {kind: value for kind, value in everything.items() if kind != "vector"}
  for embeds, cond, words in [
    (EMBEDS, {**everything, "text": given["time"]}, "but is given class, picture, several, text, told"),
    (EMBEDS, less, "conditions class, vector, several, told, words, picture, but is given class, picture"),
    (EMBEDS[:1], {}, "made for the conditions class, but is given none"),
    ((), {"class": everything["class"]}, "made for the conditions none, but is given class"),
  ]:
    with pytest.raises(ConfigError, match=re.escape(words)):
      shapes(make(name, conditions=embeds), {**given, "cond": cond})


@every_network
def test_data_without_height_and_width_are_taken_or_refused_in_words(name):
  net, vectors = (
    NETWORKS[name](**{"outputs" if name in ENCODERS else "out_channels": 5}, **OPTIONS[name]),
    jnp.zeros((2, 5)),
  )
  init = lambda: jax.eval_shape(net.init_with_output, jax.random.key(0), vectors, jnp.zeros(2))[0].shape
  if name == "prior":
    assert init() == vectors.shape
  else:
    with pytest.raises(ConfigError, match=r"is of images, .* have the shape \(5,\); choose"):
      init()
