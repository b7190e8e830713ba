"""What a network makes of its weights alone, made once in place of at every call.

A network with float32 parameters that computes in bfloat16 converts every kernel when it is called, and on a CPU a
wide convolution first transforms its kernel to four times as many numbers (`winograd`). XLA takes neither out of a
loop: a walk of 50 steps converts, or transforms, every kernel fifty times, which for one image is half of its work.
"""

import math
from collections.abc import Callable

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from diffjax.models import conv
from diffjax.types import Params

CALLS = {"jit", "pjit", "closed_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call"}
MOST_BYTES = 2**30  # of transformed kernels


def _reads(jaxpr: Jaxpr) -> dict[Var, set]:
  """For each input the ways in which it is read: dtypes it is converted to, `conv.transformed`, None for others."""
  found = {var: set() for var in jaxpr.invars}

  def reads(operand, ways):
    if not isinstance(operand, Literal) and operand in found:
      found[operand] |= ways

  for equation in jaxpr.eqns:
    inner = [value for value in equation.params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
    if equation.primitive.name == "convert_element_type":
      reads(equation.invars[0], {equation.params["new_dtype"]})
    elif conv.transforms(equation):
      reads(equation.invars[0], {None})
      reads(equation.invars[1], {conv.transformed})
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


def prepared(function: Callable[[Params], object], params: Params) -> Params:
  """Parameters with which `function` does the same in less: the same results, bit for bit.

  Those that it reads only as one other dtype are of that dtype. Beside a kernel of which every reader is a convolution
  that transforms it stands the transformed one, if all of these together take no more than MOST_BYTES; the function is
  then no function of that kernel that could be differentiated.

  Args:
    function: of the parameters alone, nested dicts with a layer's in one; traced, not computed.
    params: arrays, or a transformation's tracers.
  """
  leaves, tree = jax.tree.flatten(params)
  jaxpr = jax.make_jaxpr(lambda *leaves: function(tree.unflatten(leaves)))(*leaves).jaxpr
  ways = _reads(jaxpr)
  only = [next(iter(ways[var])) if len(ways[var]) == 1 else None for var in jaxpr.invars]
  wide = [way is conv.transformed for way in only]
  converted = [
    leaf if way is None or kernel else leaf.astype(way)
    for leaf, way, kernel in zip(leaves, only, wide, strict=True)
  ]
  params, kernels = tree.unflatten(converted), flatten_dict(tree.unflatten(wide))
  flat = flatten_dict(params, keep_empty_nodes=True)
  made = {
    (*path[:-1], conv.TRANSFORMED): flat[path]
    for path, kernel in kernels.items()
    if kernel and path[-1] == "kernel"
  }
  size = sum(math.prod(jax.eval_shape(conv.transformed, kernel).shape) * 4 for kernel in made.values())
  if not made or size > MOST_BYTES:
    return params
  return unflatten_dict(flat | {path: conv.transformed(kernel) for path, kernel in made.items()})
