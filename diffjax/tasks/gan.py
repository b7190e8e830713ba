"""The task "gan": a generative adversarial network (Goodfellow et al. 2014), two players in one loss.

With a generator G of noise z, a critic D, real images x and sg(.) held still, an example's loss is

    f(D_sg(G(z))) + r(D(x)) + h(D(sg G(z))) + strength * penalty                                      (1)

so that the gradient of either player is that of its own terms.

    non_saturating   f(d) = r(d) = log(1 + exp(-d)),  h(d) = log(1 + exp(d))                          (2)
    wasserstein      f(d) = r(d) = -d,  h(d) = d                         (Arjovsky et al. 2017)       (3)

    r1        |grad_x D(x)|^2 / 2                                        (Mescheder et al. 2018, eq. 9)
    gradient  (|grad D(x')| - 1)^2,  x' = u x + (1 - u) G(z)             (Gulrajani et al. 2017, eq. 3)

Both players move at once; `critic_rate` is how much faster the critic does (Heusel et al. 2017), in the place of
several of its steps to one of the generator's.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.gaussian import sum_dims
from diffjax.ranges import NotNegative, Positive, one_of
from diffjax.spaces import Space
from diffjax.tasks.images import images
from diffjax.tasks.task import Loss, Task
from diffjax.types import Batch, Keys, PerExample


class Game(NamedTuple):
  """f, r and h of equation (1), elementwise."""

  fooled: Callable[[Array], Array]
  real: Callable[[Array], Array]
  fake: Callable[[Array], Array]


Critic = Callable[[Batch], PerExample]
GAMES = {
  "non_saturating": Game(lambda d: jax.nn.softplus(-d), lambda d: jax.nn.softplus(-d), jax.nn.softplus),
  "wasserstein": Game(lambda d: -d, lambda d: -d, lambda d: d),
}


def r1(critic: Critic, x: Batch, fake: Batch, example_keys: Keys) -> PerExample:
  """At real images."""
  return sum_dims(_slope(critic, x) ** 2) / 2


def gradient(critic: Critic, x: Batch, fake: Batch, example_keys: Keys) -> PerExample:
  """Between real images and fakes."""
  u = keys.uniform(example_keys).reshape(-1, *[1] * (x.ndim - 1))
  square = sum_dims(_slope(critic, u * x + (1 - u) * fake) ** 2)
  return (jnp.sqrt(square + 1e-12) - 1) ** 2  # a root has no slope at 0


def _slope(critic: Critic, x: Batch) -> Batch:
  return jax.grad(lambda x: critic(x).sum())(x)


PENALTIES = {"r1": r1, "gradient": gradient}


def gan(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  augmentation: Callable[..., Augmentation],
  generator: Callable[..., nn.Module],
  critic: Callable[..., nn.Module],
  dtype: str,
  temperature: float,
  fields: Mapping[str, Field],
  game: Annotated[str, one_of(GAMES)] = "non_saturating",
  penalty: Annotated[str, one_of(PENALTIES)] = "r1",
  strength: NotNegative = 1.0,
  critic_rate: Positive = 1.0,
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: what both networks are told.
    augmentation: one that tells nothing.
    generator, critic: the networks.
    dtype: of their computation.
    temperature: standard deviation of z where samples are drawn.
    fields: of the data.
    game: one of GAMES.
    penalty: one of PENALTIES.
    strength: of the penalty.
    critic_rate: factor on the critic's learning rate.

  Raises:
    ConfigError: parts that do not go together.
  """
  of = images(space, conditions, fields, augmentation)
  make = generator(shape=of.shape, conditions=of.embeds, dtype=dtype)
  judge = critic(conditions=of.embeds, dtype=dtype)
  costs = GAMES[game]

  def init(key):
    x0, cond = of.blank()
    first, second = jax.random.split(key)
    z = jnp.zeros((1, make.latent))
    return {
      "generator": make.init(first, z, cond)["params"],
      "critic": judge.init(second, x0, cond)["params"],
    }

  def generated(params, cond, example_keys, scale=1.0):
    z = scale * keys.normal(example_keys, (make.latent,))
    return make.apply({"params": params["generator"]}, z, cond)

  def critic_of(weights, cond):
    return lambda x: judge.apply({"params": weights}, x, cond)

  def loss(params, frozen, data, draws, memory):
    x0, cond = of.read(data, draws)
    stop_gradient = jax.lax.stop_gradient
    fake = generated(params, cond, draws.keys("latent"))
    learning, still = (
      critic_of(weights, cond) for weights in (params["critic"], stop_gradient(params["critic"]))
    )
    real, fakes = learning(x0), learning(stop_gradient(fake))
    values = {
      "generator": costs.fooled(still(fake)),
      "critic": costs.real(real) + costs.fake(fakes),
      "penalty": PENALTIES[penalty](learning, x0, stop_gradient(fake), draws.keys("penalty")),
    }
    total = values["generator"] + values["critic"] + strength * values["penalty"]
    return Loss(total, logs=values | {"gap": real - fakes})

  def held_out(params, frozen, data, case):
    x0, cond = of.read(data)
    score = critic_of(params["critic"], cond)
    fake = generated(params, cond, keys.of_examples(keys.seed(0), data["index"]))
    return {"real": score(x0), "gap": score(x0) - score(fake)}

  def sample(params, data, sample_keys):
    return generated(params, of.cond(data), keys.purpose(sample_keys, "prior"), temperature)

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=of.at_once(sample),
    rates={"critic": critic_rate},
  )
