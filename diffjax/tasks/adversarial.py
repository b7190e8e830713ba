"""A discriminator of reconstructions (Esser et al. 2021, section 3.1), as terms of an autoencoder's loss.

Two players share one loss in which each holds the other still (sg): with logits D of real images x0 and of x

    adversarial    of the autoencoder     hinge -D(x),  non-saturating log(1 + exp(-D(x)))            (1)
    discriminator  of the discriminator   hinge (max(0, 1 - D(x0)) + max(0, 1 + D(sg x))) / 2,
                   non-saturating (log(1 + exp(-D(x0))) + log(1 + exp(D(sg x)))) / 2                  (2)
    r1             of the discriminator   |grad_x0 D(x0)|^2 / 2 (Mescheder et al. 2018, eq. 9)        (3)

as means over the patches, which is also what D is in (3). D in (1) is of held weights and x in (2) is held, so that
the gradient of either player is its own. The adaptive weight is the paper's eq. 7: with L the last
layer's weights and rec the sum of all other terms,

    lambda = |grad_L rec| / (|grad_L adversarial| + 1e-4), at most 1e4                                (4)
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.gaussian import mean_dims, sum_dims
from diffjax.ranges import NotNegative, Whole, one_of
from diffjax.tasks.reconstruction import Term, Terms
from diffjax.types import PerExample

DISCRIMINATOR = "discriminator"  # the player, and what its terms need


class Game(NamedTuple):
  """What logits cost, elementwise: an autoencoder whose images get them, and a discriminator that gives them."""

  fooled: Callable[[Array], Array]
  real: Callable[[Array], Array]
  fake: Callable[[Array], Array]


GAMES = {
  "hinge": Game(lambda d: -d, lambda d: jax.nn.relu(1 - d), lambda d: jax.nn.relu(1 + d)),
  "non_saturating": Game(lambda d: jax.nn.softplus(-d), lambda d: jax.nn.softplus(-d), jax.nn.softplus),
}


def adversarial(
  weight: NotNegative = 0.5,
  loss: Annotated[str, one_of(GAMES)] = "hinge",
  start: Whole = 0,
  adaptive: bool = True,
) -> Terms:
  """Equations (1) and (2).

  Args:
    weight: of (1); (2) has 1.
    loss: one of GAMES.
    start: steps before the game begins.
    adaptive: whether the weight of (1) is multiplied by (4), which hangs on the whole batch.
  """
  game = GAMES[loss]

  def fooled(pair):
    return mean_dims(game.fooled(pair.judge(pair.x)))

  def discrimination(pair):
    real, fake = (pair.judge_learning(jax.lax.stop_gradient(x)) for x in (pair.x0, pair.x))
    return mean_dims(game.real(real) + game.fake(fake)) / 2

  needs = {"needs": DISCRIMINATOR, "start": start}
  return (
    Term("adversarial", weight, fooled, adaptive=adaptive, **needs),
    Term(DISCRIMINATOR, 1.0, discrimination, **needs),
  )


def r1(weight: NotNegative = 10.0, start: Whole = 0) -> Terms:
  """Equation (3), `weight` being gamma, from the step `start` on."""

  def penalty(pair):
    gradient = jax.grad(lambda x: mean_dims(pair.judge_learning(x)).sum())(pair.x0)
    return sum_dims(gradient**2) / 2

  return (Term("r1", weight, penalty, DISCRIMINATOR, start),)


def adaptive_weight(
  pull: Callable[[Array], Sequence[Array]],
  out: Array,
  reconstruction: Callable[[Array], PerExample],
  adversary: Callable[[Array], PerExample],
) -> Float[Array, ""]:
  """Equation (4).

  Args:
    pull: the derivative of the network's answer by the last layer's weights, transposed.
    out: the network's answer.
    reconstruction, adversary: of the answer, losses [B].
  """
  gradients = (
    pull(jax.grad(lambda out, of=of: jnp.mean(of(out)))(out)) for of in (reconstruction, adversary)
  )
  rec, adv = (jnp.sqrt(sum(jnp.sum(part**2) for part in gradient)) for gradient in gradients)
  return jax.lax.stop_gradient(jnp.clip(rec / (adv + 1e-4), 0, 1e4))
