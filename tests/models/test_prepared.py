"""Weights are converted or transformed before a loop where nothing reads them otherwise; results stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.models import conv, layers
from diffjax.models.prepared import MOST_BYTES, prepared

HALF, LOOPS = jnp.bfloat16, ("while", "scan")


def test_what_is_read_in_one_other_dtype_alone_is_converted():
  def function(params):
    half = {name: value.astype(HALF) for name, value in params.items() if name != "plain"}
    inside = jax.jit(lambda a: a.astype(HALF) * 2)(params["called"])
    looped = jax.lax.fori_loop(0, 2, lambda _, x: x + params["looped"].astype(HALF), inside)
    return half["once"] + params["both"] + params["plain"] + inside + looped, params["returned"]

  names = ("once", "both", "plain", "called", "looped", "returned")
  params = {name: jnp.asarray([1.2345678 + i], jnp.float32) for i, name in enumerate(names)}
  narrow = prepared(function, params)
  assert {name for name, value in narrow.items() if value.dtype == HALF} == {"once", "called"}
  for one, other in zip(function(params), function(narrow), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "remat"), [("unet", True), ("dit", False)])
def test_no_step_of_a_walk_converts_the_networks_kernels(name, remat):
  config = configs.base()
  config.model.unet.remat = remat
  config.model.name, config.model.dtype = name, "bfloat16"
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.blocks = 8, (1,), 1
  config.model.dit.channels, config.model.dit.heads, config.model.dit.blocks = 16, 2, 1
  config.model.unet.attention, config.sample.steps = (8,), 3
  parts = experiment.create(config, {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)})
  drawing, key = parts.task.draw, keys.seed(0)
  params = jax.eval_shape(parts.task.init, key)
  kernels = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1}

  def walk(params):
    request, sample_keys = {"index": jnp.arange(2)}, keys.of_examples(key, jnp.arange(2))
    carry = drawing.begin(params, {}, drawing.plan, request, sample_keys)
    return drawing.advance(params, {}, drawing.plan, request, sample_keys, carry, 0, drawing.stops)

  def conversions(jaxpr, looped=False):
    for equation in jaxpr.eqns:
      if equation.primitive.name == "convert_element_type" and equation.invars[0].aval.shape in kernels:
        yield looped
      for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr)):
        if isinstance(value, ClosedJaxpr | Jaxpr):
          yield from conversions(getattr(value, "jaxpr", value), looped or equation.primitive.name in LOOPS)

  where = list(conversions(jax.make_jaxpr(walk)(params).jaxpr))
  assert len(where) >= 5 and not any(where)


WIDE = jax.eval_shape(lambda: {"conv": {"kernel": jnp.zeros((3, 3, 64, 64)), "bias": jnp.zeros(64)}})


@pytest.mark.parametrize(
  ("changed", "expected"),
  [({}, True), ({"size": 8}, False), ({"looped": True}, False), ({"also": True}, False)],
  ids=["wide", "few tiles", "in a loop", "read otherwise"],
)
def test_kernels_that_only_a_transforming_convolution_reads_are_transformed(changed, expected):
  size, looped, also = changed.get("size", 32), changed.get("looped"), changed.get("also")

  def function(params):
    kernel = params["conv"]["kernel"]
    once = lambda x: conv.conv(x, kernel, 1, params["conv"].get(conv.TRANSFORMED))
    y = once(jnp.ones((2, size, size, 64)))
    y = jax.lax.fori_loop(0, 2, lambda _, y: once(y), y) if looped else y
    return y * kernel.sum() if also else y

  made = jax.eval_shape(lambda params: prepared(function, params), WIDE)
  assert (conv.TRANSFORMED in made["conv"]) == expected
  assert made["conv"]["kernel"] == WIDE["conv"]["kernel"]


def test_no_more_than_so_many_bytes_are_transformed():
  kernels = {f"layer_{i}": jax.ShapeDtypeStruct((3, 3, 1024, 1024), "float32") for i in range(8)}
  x = jnp.ones((1, 32, 32, 1024))
  params = {name: {"kernel": kernel} for name, kernel in kernels.items()}
  function = lambda params: [conv.conv(x, layer["kernel"]) for layer in params.values()]
  count = lambda params: len(jax.tree.leaves(jax.eval_shape(lambda p: prepared(function, p), params)))
  fit = MOST_BYTES // (4 * 36 * 1024**2)
  assert count(params) == 8 and count(dict(list(params.items())[:fit])) == 2 * fit


def test_a_layer_answers_the_same_bits():
  layer = layers.Conv(64)
  x = jax.random.normal(keys.seed(1), (2, 32, 32, 64))
  params = {"layer": layer.init(keys.seed(0), x)["params"]}
  function = lambda params: layer.apply({"params": params["layer"]}, x)
  made = prepared(function, params)
  made["layer"]["kernel"] = jnp.zeros_like(made["layer"]["kernel"])  # which nothing reads any more
  np.testing.assert_array_equal(function(params), function(made))


@pytest.mark.parametrize("remat", [False, True])
def test_no_step_of_a_walk_transforms_a_kernel(remat):
  config = configs.base()
  config.model.unet.remat = remat
  config.model.name, config.sample.steps = "unet", 3
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.blocks = 64, (1,), 1
  config.model.unet.attention, config.model.unet.groups = (), 4
  parts = experiment.create(config, {"image": Field((32, 32, 1), "uint8"), "label": Field((), "int32", 10)})
  drawing, key = parts.task.draw, keys.seed(0)
  params = jax.eval_shape(parts.task.init, key)

  def walk(params):
    request, sample_keys = {"index": jnp.arange(2)}, keys.of_examples(key, jnp.arange(2))
    carry = drawing.begin(params, {}, drawing.plan, request, sample_keys)
    return drawing.advance(params, {}, drawing.plan, request, sample_keys, carry, 0, drawing.stops)

  assert not list(transforming(jax.make_jaxpr(walk)(params).jaxpr))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("diffjax.models.prepared.MOST_BYTES", 0)
    assert len(list(transforming(jax.make_jaxpr(lambda params: walk(params))(params).jaxpr))) > 5


def transforming(jaxpr):
  """The convolutions of a program that transform their kernel."""
  for equation in jaxpr.eqns:
    if conv.transforms(equation):
      yield equation
    for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr)):
      if isinstance(value, ClosedJaxpr | Jaxpr):
        yield from transforming(getattr(value, "jaxpr", value))


def test_the_derivative_by_x_is_that_of_the_convolution():
  random = np.random.default_rng(0)
  x, v = (jnp.asarray(random.standard_normal((2, 32, 32, 64)), jnp.float32) for _ in range(2))
  kernel = jnp.asarray(random.standard_normal((3, 3, 64, 64)), jnp.float32) / 24
  with_kernel = lambda x: conv.conv(x, kernel, 1, conv.transformed(kernel))
  for one, other in zip(
    jax.jvp(with_kernel, (x,), (v,)), jax.jvp(lambda x: conv.conv(x, kernel), (x,), (v,)), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=2e-4)
  pulled, want = (jax.vjp(f, x)[1](v)[0] for f in (with_kernel, lambda x: conv.conv(x, kernel)))
  np.testing.assert_allclose(pulled, want, atol=2e-4)
