"""The task "mixture": Gaussians with full covariances, some for each class, by expectation-maximisation.

    p(x | y) = sum over k of pi_yk N(x; m_yk, S_yk)                                                   (1)

A step computes how much of each example each component has (Dempster et al. 1977) and the means over the batch of

    s = (r, r x, r x x^T),  r_k = pi_k N(x; m_k, S_k) / p(x)                                          (2)

follows them, s <- s + rate (mean - s) with rate = step^-power (Cappe & Moulines 2009, eq. 13), and puts the parameters
where they are likeliest. With power 0 and all data as one batch that is plain EM. No gradient passes: `record` alone
moves the parameters. In the first step each example has the component whose seed, an example of its class, is nearest.
Steps of its own, which from one start climb as scikit-learn's GaussianMixture does (the tests compare them), let it be
checkpointed, spread over devices and told by class as every task is, and learn from batches of more data than fit.

S^-1 = W^T W with W = diag(exp(d)) (I + A), d the diagonal and A the strictly lower part of the parameter "factor".
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.source import Field
from diffjax.levels import Levels, dequantised, quantised
from diffjax.ranges import Count, Positive, Share
from diffjax.spaces import Space
from diffjax.tasks.images import Images, images
from diffjax.tasks.task import Loss, Task
from diffjax.types import Batch, ConfigError, Params

LEAST = 1e-6  # of the weight of a component that moves


def log_densities(params: Params, x: Float[Array, "b n"]) -> Float[Array, "b y k"]:
  """log N(x; m, S) of every component."""
  diagonal = jnp.diagonal(params["factor"], axis1=-2, axis2=-1)
  scaled = jnp.exp(diagonal)[..., None] * (jnp.tril(params["factor"], -1) + jnp.eye(x.shape[-1]))
  z = jnp.einsum("ykde,be->bykd", scaled, x) - jnp.einsum("ykde,yke->ykd", scaled, params["mean"])
  return diagonal.sum(-1) - 0.5 * jnp.sum(z**2 + jnp.log(2 * jnp.pi), axis=-1)


def log_joint(params: Params, x: Float[Array, "b n"]) -> Float[Array, "b y k"]:
  """log of pi N(x; m, S)."""
  return jax.nn.log_softmax(params["logits"]) + log_densities(params, x)


def coloured(factor: Float[Array, "b n n"], eps: Float[Array, "b n"]) -> Float[Array, "b n"]:
  """W^-1 eps, whose covariance is S, number after number."""
  scaled = eps * jnp.exp(-jnp.diagonal(factor, axis1=-2, axis2=-1))

  def step(i, x):  # whose later numbers are 0 still
    return x.at[:, i].set(scaled[:, i] - jnp.sum(factor[:, i] * x, axis=-1))

  return jax.lax.fori_loop(0, eps.shape[1], step, jnp.zeros_like(eps))


def maximised(params: Params, sums: tuple[Array, Array, Array], floor: float) -> Params:
  """The likeliest parameters for the means (2), with `floor` added to all variances; a component with nothing stays."""
  weight, first, second = sums
  moves = weight > LEAST
  each = jnp.maximum(weight, LEAST)
  mean = first / each[..., None]
  covariance = second / each[..., None, None] - mean[..., :, None] * mean[..., None, :]
  identity = jnp.broadcast_to(jnp.eye(mean.shape[-1]), covariance.shape)
  lower = jnp.linalg.cholesky(jnp.where(moves[..., None, None], covariance, 0) + floor * identity)
  scaled = jax.scipy.linalg.solve_triangular(lower, identity, lower=True)
  diagonal = jnp.diagonal(scaled, axis1=-2, axis2=-1)
  factor = jnp.tril(scaled / diagonal[..., None], -1) + jnp.log(diagonal)[..., None] * identity
  update = {"logits": jnp.log(each), "mean": mean, "factor": factor}
  choose = lambda new, old: jnp.where(moves.reshape(*moves.shape, *[1] * (new.ndim - 2)), new, old)
  return {name: choose(new, params[name]) if name != "logits" else new for name, new in update.items()}


def seeded(x: Float[Array, "b n"], member: Float[Array, "b y"], count: int) -> Float[Array, "b y k"]:
  """Each example to the nearest of `count` seeds of its class, which are spread over the batch."""
  place = jnp.cumsum(member, axis=0) - 1
  seeds = jnp.floor(jnp.arange(count) * member.sum(0)[:, None] / count)
  mask = member[..., None] * (place[..., None] == seeds)
  at = jnp.einsum("byk,bn->ykn", mask, x)
  nearest = jnp.argmin(jnp.sum(at**2, -1) - 2 * jnp.einsum("bn,ykn->byk", x, at), axis=-1)
  return member[..., None] * jax.nn.one_hot(nearest, count)


def means(x: Float[Array, "b n"], r: Float[Array, "b y k"]) -> tuple[Array, Array, Array]:
  """Equation (2) over a batch, component by component, whose squares are large."""
  flat = r.reshape(len(x), -1).T / len(x)
  sums = jax.lax.map(lambda w: (w.sum(), w @ x, (w[:, None] * x).T @ x), flat)
  return tuple(part.reshape(*r.shape[1:], *part.shape[1:]) for part in sums)


def _require_examples(components: int, of: Images) -> None:
  """Raises ConfigError where a class, or all of them if the task is told none, has fewer examples than components."""
  counts = next((field.counts for field in of.fields.values() if field.counts), ())
  counts = counts if of.classes else counts and (sum(counts),)
  if counts and components > min(counts):
    whose = f"class {counts.index(min(counts))} has" if of.classes else "there are"
    raise ConfigError(
      f"components is {components}, but {whose} {min(counts)} examples; choose at most as many."
    )


def mixture(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  temperature: float,
  fields: Mapping[str, Field],
  components: Count = 3,
  floor: Positive = 1e-2,
  power: Share = 0.0,
  levels: Levels = 256,
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: ("label",) or none.
    temperature: factor on the standard deviation of samples about their component's mean.
    fields: of the data.
    components: of each class.
    floor: added to every variance.
    power: of the rate; with 0 older batches do not count, for batches of all data, else 0.5 to 1.
    levels: of the pixels, for the likelihood.

  Raises:
    ConfigError: parts that do not go together, or more components than examples to begin from.
  """
  of = images(space, conditions, fields)
  _require_examples(components, of)
  rows = max(of.classes, 1) + any(condition.dropout for condition in of.conditions.values())
  size = of.blank()[0].size
  stretch = levels / (levels - 1)  # of [-1, 1] by half a bin on either side

  def init(key):
    shape = (rows, components, size)
    factor = jnp.zeros((*shape, size))
    return {"model": {"logits": jnp.zeros(shape[:2]), "mean": jnp.zeros(shape), "factor": factor}}

  def start():
    shape = (rows, components)
    zeros = (jnp.zeros(shape), jnp.zeros((*shape, size)), jnp.zeros((*shape, size, size)))
    return {"step": jnp.zeros((), jnp.int32), "means": zeros}

  def flat(x0):
    return x0.reshape(len(x0), -1)

  def joint(params, x0, label):
    """[B, K] of each example's class."""
    scores = log_joint(params["model"], flat(x0))
    return jnp.take_along_axis(scores, label[:, None, None], axis=1)[:, 0]

  def bits(params, x0, label):
    nats = -jax.nn.logsumexp(joint(params, x0, label), axis=-1)
    return nats / size / jnp.log(2.0) - jnp.log2(2 / (levels - 1))

  def loss(params, frozen, data, draws, memory):
    x0, cond = of.read(data, draws)
    label, params = of.label(cond, len(x0)), jax.lax.stop_gradient(params)
    member = jax.nn.one_hot(label, rows)
    shares = member[..., None] * jax.nn.softmax(joint(params, x0, label))[:, None]
    return Loss(bits(params, x0, label), {"x": flat(x0), "member": member, "shares": shares})

  def record(params, memory, seen):
    x, step = seen["x"], memory["step"]
    r = jnp.where(step == 0, seeded(x, seen["member"], components), seen["shares"])
    rate = (step + 1.0) ** -power
    sums = jax.tree.map(lambda old, new: old + rate * (new - old), memory["means"], means(x, r))
    return {"model": maximised(params["model"], sums, floor)}, {"step": step + 1, "means": sums}

  def spread(x0, example_keys):
    """Images with each pixel anywhere in its level's bin."""
    return (2 * dequantised(x0, levels, example_keys) - 1) * stretch

  def held_out(params, frozen, data, case):
    x0, cond = of.read(data)
    x = spread(x0, keys.of_examples(keys.seed(0), data["index"]))
    return {"bits": bits(params, x, of.label(cond, len(x)))}

  def likelihood(params, frozen, data, sample_keys):
    x0, cond = of.read(data)
    total = bits(params, spread(x0, sample_keys), of.label(cond, len(x0)))
    return {"bits": total, "nfe": jnp.ones(total.shape, jnp.int32)}

  def sample(params, data, sample_keys) -> Batch:
    label, model = of.label(of.cond(data), len(sample_keys)), params["model"]
    component = jax.vmap(jax.random.categorical)(
      keys.purpose(sample_keys, "component"), model["logits"][label]
    )
    mean, factor = model["mean"][label, component], model["factor"][label, component]
    eps = keys.normal(keys.purpose(sample_keys, "prior"), (size,))
    x = mean + temperature * coloured(factor, eps)
    return quantised((x / stretch + 1) / 2, levels).reshape(-1, *of.shape)

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=of.at_once(sample),
    likelihoods={"dequantised": likelihood},
    can={"bits": likelihood},
    start=start,
    record=record,
    whole="" if power else f"power is {power}, with which each step forgets the batches before; 0.6 does not",
  )
