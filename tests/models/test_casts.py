"""Weights are converted before a loop where nothing reads them otherwise, and the results stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.models import casts

HALF, LOOPS = jnp.bfloat16, ("while", "scan")


def test_what_is_read_in_one_other_dtype_alone_is_converted():
  def function(params):
    half = {name: value.astype(HALF) for name, value in params.items() if name != "plain"}
    inside = jax.jit(lambda a: a.astype(HALF) * 2)(params["called"])
    looped = jax.lax.fori_loop(0, 2, lambda _, x: x + params["looped"].astype(HALF), inside)
    return half["once"] + params["both"] + params["plain"] + inside + looped, params["returned"]

  names = ("once", "both", "plain", "called", "looped", "returned")
  params = {name: jnp.asarray([1.2345678 + i], jnp.float32) for i, name in enumerate(names)}
  narrow = casts.converted(function, params)
  assert {name for name, value in narrow.items() if value.dtype == HALF} == {"once", "called"}
  for one, other in zip(function(params), function(narrow), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_no_step_of_a_walk_converts_the_networks_kernels(name):
  config = configs.base()
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
