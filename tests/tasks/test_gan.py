"""The game: each player's gradient is its own; the penalties against calculus; Wasserstein's distance of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.tasks.gan import GAMES, PENALTIES


def test_penalties_of_a_quadratic_critic_are_those_of_calculus():
  random = np.random.default_rng(0)
  a, x, fake = random.normal(size=(3, 3)), random.normal(size=(4, 3)), random.normal(size=(4, 3))
  own = keys.of_examples(keys.seed(0), jnp.arange(4))
  critic = lambda x: jnp.einsum("bi,ij,bj->b", x, a, x)
  slope = lambda x: x @ (a + a.T)
  np.testing.assert_allclose(PENALTIES["r1"](critic, x, fake, own), (slope(x) ** 2).sum(1) / 2, rtol=1e-4)
  u = np.asarray(keys.uniform(own))[:, None]
  truth = (np.linalg.norm(slope(u * x + (1 - u) * fake), axis=1) - 1) ** 2
  np.testing.assert_allclose(PENALTIES["gradient"](critic, jnp.asarray(x), fake, own), truth, rtol=1e-4)
  flat = PENALTIES["gradient"](lambda x: 0 * x.sum(1), jnp.asarray(x), fake, own)
  np.testing.assert_allclose(flat, 1, atol=1e-5)


def test_penalties_of_a_network_are_those_of_finite_differences():
  random = np.random.default_rng(1)
  first, second = random.normal(size=(3, 8)), random.normal(size=8)
  x, fake = random.normal(size=(4, 3)), random.normal(size=(4, 3))
  own = keys.of_examples(keys.seed(2), jnp.arange(4))
  u = np.asarray(keys.uniform(own), float)[:, None]
  critic = lambda x, exact: exact.sin(x @ first) @ second
  slope = lambda x: np.stack([critic(x + s, np) - critic(x - s, np) for s in 1e-5 * np.eye(3)], 1) / 2e-5
  truth = {
    "r1": np.sum(slope(x) ** 2, 1) / 2,
    "gradient": (np.linalg.norm(slope(u * x + (1 - u) * fake), axis=1) - 1) ** 2,
  }
  assert truth.keys() == PENALTIES.keys()
  for name, penalty in PENALTIES.items():
    result = penalty(lambda x: critic(x, jnp), jnp.asarray(x), jnp.asarray(fake), own)
    np.testing.assert_allclose(result, truth[name], rtol=1e-3)


@pytest.mark.parametrize("game", GAMES)
def test_each_players_gradient_is_that_of_its_own_terms(game):
  config = configs.base()
  config.task.name, config.task.gan.game, config.task.gan.strength = "gan", game, 2.0
  config.model.dense_generator.hidden = config.model.dense_critic.hidden = (5,)
  config.model.dense_generator.latent = 3
  task = experiment.create(config, {"image": Field((2, 2, 1), "uint8")}).task
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8))
  data, draws = {"image": images, "index": jnp.arange(6)}, keys.Draws(keys.seed(1), jnp.arange(6), 6)
  params = task.init(keys.seed(0))

  @jax.jit
  def gradients(params):
    total = jax.grad(lambda p: task.loss(p, {}, data, draws, ()).each.mean())(params)
    log = lambda name: jax.grad(lambda p: task.loss(p, {}, data, draws, ()).logs[name].mean())(params)
    return total, {name: log(name) for name in ("generator", "critic", "penalty")}

  total, of = gradients(params)
  close = lambda a, b: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), a, b)
  zero = lambda tree: all((leaf == 0).all() for leaf in jax.tree.leaves(tree))
  assert (
    zero(of["generator"]["critic"]) and zero(of["critic"]["generator"]) and zero(of["penalty"]["generator"])
  )
  close(total["generator"], of["generator"]["generator"])
  close(
    total["critic"], jax.tree.map(lambda a, b: a + 2 * b, of["critic"]["critic"], of["penalty"]["critic"])
  )
  assert not zero(total["generator"]) and not zero(total["critic"])


def test_a_wasserstein_critic_finds_the_distance_of_two_shifted_gaussians():
  game, shift, network = GAMES["wasserstein"], 3.0, optax.adam(1e-2)
  random = np.random.default_rng(0)
  weights = jax.tree.map(
    lambda s: jnp.asarray(random.normal(size=s), jnp.float32),
    {"a": (1, 16), "b": (16,), "c": (16, 1)},
    is_leaf=lambda s: isinstance(s, tuple),
  )
  critic = lambda p, x: (jax.nn.leaky_relu(x @ p["a"] + p["b"], 0.2) @ p["c"])[:, 0] / 4

  def pair(key):
    one, other = jax.random.normal(key, (2, 128, 1))
    return one + shift, other

  def step(carry, i):
    weights, state = carry
    key = jax.random.fold_in(keys.seed(0), i)
    real, fake = pair(key)

    def loss(p):
      of = lambda x: critic(p, x)
      penalty = PENALTIES["gradient"](of, real, fake, keys.of_examples(key, jnp.arange(128)))
      return jnp.mean(game.real(of(real)) + game.fake(of(fake)) + 10 * penalty)

    updates, state = network.update(jax.grad(loss)(weights), state)
    return (optax.apply_updates(weights, updates), state), None

  (weights, _), _ = jax.jit(lambda w: jax.lax.scan(step, (w, network.init(w)), jnp.arange(600)))(weights)
  real, fake = pair(keys.seed(9))
  gap = float(jnp.mean(critic(weights, real)) - jnp.mean(critic(weights, fake)))
  assert abs(gap - shift) < 0.25 * shift
