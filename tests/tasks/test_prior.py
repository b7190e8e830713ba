"""A prior over Gaussian embeddings: trained, it draws their conditional mean and covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field

FIELDS = {"embedding": Field((2,), "float32"), "label": Field((), "int32", 2)}
MEANS = np.asarray([[1.5, 0.0], [-1.0, 1.0]], np.float32)
ROOTS = np.asarray([[[0.6, 0.0], [0.4, 0.3]], [[0.3, 0.0], [0.0, 0.7]]], np.float32)


def embeddings(label, noise):
  return jnp.asarray(MEANS)[label] + jnp.einsum("bij,bj->bi", jnp.asarray(ROOTS)[label], noise)


@pytest.mark.slow
def test_it_draws_the_conditional_gaussian():
  config = configs.base()
  config.space.name, config.model.name, config.objective.predict = "vector", "prior", "x0"
  config.condition.names, config.schedule.name = ("label",), "cosine"
  config.model.prior.channels, config.model.prior.blocks, config.model.prior.heads = 32, 1, 2
  config.sample.sampler, config.sample.grid, config.sample.steps = "ddim", "trailing", 50
  config.sample.guides = ()
  task = experiment.create(config, FIELDS).task
  params = task.init(keys.seed(0))
  adam = optax.adam(optax.cosine_decay_schedule(3e-3, 1500))

  def step(carry, number):
    params, state = carry
    draws = keys.Draws(jax.random.fold_in(keys.seed(1), number), jnp.arange(256), 256)
    label = (keys.uniform(draws.keys("class")) < 0.5).astype(jnp.int32)
    data = {"embedding": embeddings(label, keys.normal(draws.keys("data"), (2,))), "label": label}
    slope = jax.grad(lambda p: task.loss(p, {}, data, draws, task.start()).each.mean())(params)
    change, state = adam.update(slope, state)
    return (optax.apply_updates(params, change), state), None

  (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(1500)))(
    (params, adam.init(params))
  )

  count = 4000
  index, drawing = jnp.arange(count), task.draw
  data = {"index": index, "label": index % 2}

  @jax.jit
  def draw(params):
    own = keys.of_examples(keys.seed(2), index)
    carry = drawing.begin(params, {}, drawing.plan, data, own)
    _, _, x0 = drawing.advance(params, {}, drawing.plan, data, own, carry, 0, drawing.stops)
    return drawing.show({}, x0)["embedding"]

  result = np.asarray(draw(params))
  for label in (0, 1):
    of = result[np.arange(count) % 2 == label]
    np.testing.assert_allclose(of.mean(0), MEANS[label], atol=0.06)
    np.testing.assert_allclose(np.cov(of.T), ROOTS[label] @ ROOTS[label].T, atol=0.06)
