"""Weights that a function reads only as another dtype, converted once in place of at every call.

A network with float32 parameters that computes in bfloat16 converts every kernel when it is called. XLA does not
take these conversions out of a loop: a walk of 50 steps reads all weights in float32, and writes them in bfloat16,
fifty times.
"""

from collections.abc import Callable

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from diffjax.types import Params

CALLS = {"jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def _reads(jaxpr: Jaxpr) -> dict[Var, set]:
  """For each input the dtypes that it is converted to; None is among them where it is read as it is."""
  found = {var: set() for var in jaxpr.invars}

  def reads(operand, ways):
    if not isinstance(operand, Literal) and operand in found:
      found[operand] |= ways

  for equation in jaxpr.eqns:
    inner = [value for value in equation.params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
    if equation.primitive.name == "convert_element_type":
      reads(equation.invars[0], {equation.params["new_dtype"]})
    elif equation.primitive.name in CALLS and len(inner) == 1:
      called = getattr(inner[0], "jaxpr", inner[0])
      ways = _reads(called)
      for operand, var in zip(equation.invars, called.invars, strict=True):
        reads(operand, ways[var])
    else:
      for operand in equation.invars:
        reads(operand, {None})
  for operand in jaxpr.outvars:
    reads(operand, {None})
  return found


def converted(function: Callable[[Params], object], params: Params) -> Params:
  """The parameters, those that `function` reads only as one other dtype in that dtype: the same results, bit for bit.

  Args:
    function: of the parameters alone; traced, not computed.
    params: arrays, or a transformation's tracers.
  """
  leaves, tree = jax.tree.flatten(params)
  jaxpr = jax.make_jaxpr(lambda *leaves: function(tree.unflatten(leaves)))(*leaves).jaxpr
  ways = _reads(jaxpr)
  only = (next(iter(ways[var])) if len(ways[var]) == 1 else None for var in jaxpr.invars)
  return tree.unflatten(
    [leaf.astype(dtype) if dtype else leaf for leaf, dtype in zip(leaves, only, strict=True)]
  )
