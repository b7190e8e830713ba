"""A discriminator's terms against NumPy, the adaptive weight, and whose gradient is whose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.tasks.adversarial import GAMES, adaptive_weight
from diffjax.tasks.reconstruction import Reconstruction
from diffjax.tasks.terms import TERMS

RNG = np.random.default_rng(0)
B, FIELDS = 3, {"image": Field((8, 8, 1), "uint8")}
MATRIX = jnp.asarray(RNG.normal(size=(16, 6)), jnp.float32)
X0, X = (jnp.asarray(RNG.normal(size=(B, 4, 4, 1)), jnp.float32) for _ in range(2))


def judge(x):
  """Logits of six patches, not linear in x."""
  return jnp.tanh(x.reshape(len(x), -1) @ MATRIX).reshape(-1, 2, 3)


def softplus(x):
  return np.log1p(np.exp(x))


@pytest.mark.parametrize("loss", GAMES)
def test_both_players_terms_are_the_formulas(loss):
  fooled, told_apart = TERMS["adversarial"](loss=loss, weight=0.7, start=5)
  assert (
    fooled.adaptive
    and (fooled.weight, told_apart.weight) == (0.7, 1.0)
    and fooled.start == told_apart.start == 5
  )
  seen = Reconstruction(X0, X, {}, {}, judge, judge)
  real, fake = (np.asarray(judge(x), np.float64).reshape(B, -1) for x in (X0, X))
  if loss == "hinge":
    want = -fake.mean(1), (np.maximum(0, 1 - real).mean(1) + np.maximum(0, 1 + fake).mean(1)) / 2
  else:
    want = softplus(-fake).mean(1), (softplus(-real).mean(1) + softplus(fake).mean(1)) / 2
  np.testing.assert_allclose(fooled.of(seen), want[0], rtol=1e-5)
  np.testing.assert_allclose(told_apart.of(seen), want[1], rtol=1e-5)


def test_r1_is_the_square_of_the_gradient_at_real_images():
  (term,) = TERMS["r1"]()
  h = np.asarray(X0, np.float64).reshape(B, -1) @ np.asarray(MATRIX, np.float64)
  gradient = (1 - np.tanh(h) ** 2) @ np.asarray(MATRIX).T / 6
  result = term.of(Reconstruction(X0, X, {}, {}, None, judge))
  np.testing.assert_allclose(result, (gradient**2).sum(1) / 2, rtol=1e-4)


def test_the_adaptive_weight_is_the_ratio_of_the_last_layers_gradients():
  h, target = RNG.normal(size=(B, 5)), RNG.normal(size=(B, 2))
  last, factor = RNG.normal(size=(5, 2)), RNG.normal(size=2)
  out, pull = jax.vjp(lambda last: jnp.asarray(h, jnp.float32) @ last, jnp.asarray(last, jnp.float32))
  square = lambda out: ((out - target) ** 2).sum(1)
  linear = lambda out: out @ factor
  result = adaptive_weight(pull, out, square, linear)
  rec, adv = h.T @ (2 * (h @ last - target)) / B, h.T @ np.tile(factor, (B, 1)) / B
  np.testing.assert_allclose(result, np.linalg.norm(rec) / (np.linalg.norm(adv) + 1e-4), rtol=1e-4)
  assert adaptive_weight(pull, out, square, lambda out: 0 * out.sum(1)) == 1e4


@functools.cache
def task(**changes):
  config = configs.base()
  config.task.name, config.train.batch_size = "autoencoder", B
  config.model.kl.channels, config.model.kl.multipliers, config.model.kl.blocks = 8, (1,), 1
  config.model.kl.attention = False
  config.model.patch.width, config.model.patch.layers = 4, 1
  config.objective.terms = ("l2", "adversarial", "r1")
  config.objective.adversarial.start = 2
  config.update_from_flattened_dict(changes)
  return experiment.create(config, FIELDS).task


@pytest.fixture(scope="module")
def played():
  """(step, changes of players) -> the loss's gradient and logs."""
  parts, index = task(), jnp.arange(B)
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(parts.init, keys.seed(0))
  params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), shapes)
  data = {"image": jnp.asarray(rng.integers(0, 256, (B, 8, 8, 1)), jnp.uint8), "index": index}

  def loss(params, step):
    result = parts.loss(params, {}, data, keys.Draws(keys.seed(4), index, B, step), parts.start())
    return result.each.mean(), {name: value.mean() for name, value in result.logs.items()}

  compiled = jax.jit(jax.grad(loss, has_aux=True))

  def run(step=3, **scales):
    moved = {
      name: jax.tree.map(lambda x, n=name: x * scales.get(n, 1.0), tree) for name, tree in params.items()
    }
    return compiled(moved, jnp.asarray(step))

  return run


def same(one, other):
  return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def test_the_logs_name_all_players(played):
  _, logs = played()
  assert set(logs) == {"l2", "adversarial", "discriminator", "r1", "adversarial_weight"}
  assert 0 < logs["adversarial_weight"] < 1e4


def test_before_its_start_the_game_moves_nobody(played):
  gradient, logs = played(step=1)
  assert logs["adversarial_weight"] == 0
  other, _ = played(step=1, discriminator=2.0)
  assert same(gradient["model"], other["model"]) and not same(gradient["model"], played(step=3)[0]["model"])
  # r1 alone, whose start is 0, is left: the bias of the last layer moves no gradient by x
  assert np.all(np.asarray(gradient["discriminator"]["conv_out"]["bias"]) == 0)


def test_each_player_s_gradient_is_its_own():
  """Without the adaptive weight an autoencoder's gradient is that of its own terms with the discriminator held."""
  parts, index = task(**{"objective.adversarial.adaptive": False, "model.patch.norm": "group"}), jnp.arange(B)
  assert not parts.couples and task().couples
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(parts.init, keys.seed(0))
  params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), shapes)
  data = {"image": jnp.asarray(rng.integers(0, 256, (B, 8, 8, 1)), jnp.uint8), "index": index}

  def logs(params, names):
    result = parts.loss(params, {}, data, keys.Draws(keys.seed(4), index, B, jnp.asarray(3)), parts.start())
    weights = {"l2": 1.0, "adversarial": 0.5, "discriminator": 1.0, "r1": 10.0}
    return sum(weights[name] * result.logs[name].mean() for name in names)

  gradient = jax.jit(jax.grad(logs), static_argnums=1)
  model, judge = gradient(params, ("l2", "adversarial")), gradient(params, ("discriminator", "r1"))
  zero = lambda tree: all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(tree))
  assert zero(model["discriminator"]) and zero(judge["model"])
  assert not zero(model["model"]) and not zero(judge["discriminator"])
