"""Floating-point operations of a function, counted from its jaxpr: what the model asks for.

Counted are matrix products and convolutions, a multiplication and an addition as two. A convolution counts by its
definition, however it is computed: a product for every pair of an input pixel and a kernel entry that meet
(what falls on the padding is no product), and each of its gradients as much. Elementwise work is left out, as is
usual for a model's FLOPs; nothing depends on the backend.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from benchmarks import ours
from diffjax import experiment
from diffjax.keys import Draws


def _dot(equation) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _meetings(size: int, outputs: int, side: int, stride: int, before: int, spread=1, hole=1) -> int:
  """Pairs of an output and a kernel entry, along one axis, under which there is an input.

  Args:
    size: of the input; `spread` - 1 zeros lie between two of its pixels.
    outputs: their number.
    side: of the kernel; `hole` - 1 zeros lie between two of its entries.
    stride: between outputs.
    before: padding.
  """
  at = stride * np.arange(outputs)[:, None] + hole * np.arange(side) - before
  return int(np.sum((at >= 0) & (at < spread * (size - 1) + 1) & (at % spread == 0)))


def _lax_conv(equation) -> int:
  settings = equation.params
  numbers = settings["dimension_numbers"]
  x, kernel = (v.aval.shape for v in equation.invars)
  out = equation.outvars[0].aval.shape
  total = 2 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
  for i, (here, there, side) in enumerate(
    zip(numbers.lhs_spec[2:], numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True)
  ):
    stride, (before, _) = settings["window_strides"][i], settings["padding"][i]
    spread, hole = settings["lhs_dilation"][i], settings["rhs_dilation"][i]
    total *= _meetings(x[here], out[there], kernel[side], stride, before, spread, hole)
  return total


def _same_conv(x: tuple[int, ...], side: int, features: int, stride: int) -> int:
  """Of `conv` with an input of this shape, or of either of its gradients."""
  total = 2 * x[0] * x[3] * features
  for size in x[1:3]:
    outputs = -(-size // stride)
    pad = max((outputs - 1) * stride + side - size, 0)
    total *= _meetings(size, outputs, side, stride, pad // 2)
  return total


def _conv_forward(equation) -> int:
  x, kernel = (v.aval.shape for v in equation.invars)
  return _same_conv(x, kernel[0], kernel[3], equation.params["stride"])


def _conv_input_gradient(equation) -> int:
  kernel, x = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
  return _same_conv(x, kernel[0], kernel[3], equation.params["stride"])


def _conv_kernel_gradient(equation) -> int:
  x, kernel = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  return _same_conv(x, kernel[0], kernel[3], equation.params["stride"])


COUNTS: dict[str, Callable] = {
  "dot_general": _dot,
  "conv_general_dilated": _lax_conv,
  "conv_forward": _conv_forward,
  "conv_input_gradient": _conv_input_gradient,
  "conv_kernel_gradient": _conv_kernel_gradient,
}


def _inside(value) -> list[Jaxpr]:
  if isinstance(value, ClosedJaxpr):
    return [value.jaxpr]
  if isinstance(value, Jaxpr):
    return [value]
  return [jaxpr for part in value for jaxpr in _inside(part)] if isinstance(value, tuple | list) else []


def _of_jaxpr(jaxpr: Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inner = [_of_jaxpr(j) for value in equation.params.values() for j in _inside(value)]
    if name in COUNTS:
      total += COUNTS[name](equation)
    elif name == "scan":
      total += equation.params["length"] * sum(inner)
    elif name == "cond":
      total += max(inner)
    elif name == "while" and sum(inner):
      raise ValueError("a while loop with matrix products has no fixed number of operations; count its body.")
    else:
      total += sum(inner)
  return total


def count(function: Callable, *operands) -> int:
  """Operations of function(*operands); the operands may be shapes.

  Raises:
    ValueError: matrix products inside a loop without a fixed length.
  """
  return _of_jaxpr(jax.make_jaxpr(function)(*operands).jaxpr)


def training_step(config, size: int) -> int:
  """Of forward and backward of a batch of config.train, for images of this size and three channels."""
  task, many = experiment.create(config, ours.fields(size)).task, config.train.batch_size

  def loss(params, batch, key):
    return task.loss(params, {}, batch, Draws(key, batch["index"], many), task.start()).each.mean()

  batch = {"image": np.zeros((many, size, size, 3), np.uint8), "index": np.arange(many)}
  key = jax.random.key(0)
  return count(jax.grad(loss), jax.eval_shape(task.init, key), batch, key)


def sampling_step(config, size: int, batch: int) -> int:
  """Of one call of the network on a batch of such images."""
  task = experiment.create(config, ours.fields(size)).task
  (schedule,) = experiment.makers(config, "schedule", "name").values()
  images = np.zeros((batch, size, size, 3), np.float32)

  def denoised(params, x):
    return task.can["denoise"](params, {})(x, 0.5, schedule()).x0

  return count(denoised, jax.eval_shape(task.init, jax.random.key(0)), images)
