"""Tasks with a likelihood: they sum to 1 over all images, are SciPy's, and agree where they hold the same Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.models.realnvp import RealNVP
from diffjax.tasks.mixture import coloured, log_densities, log_joint


def make(task, shape=(2, 2, 1), **fields):
  config = configs.base()
  config.task.name = task
  config.update_from_flattened_dict(fields)
  return experiment.create(config, {"image": Field(shape, "uint8")}).task


def moved(task, size=0.5):
  random = np.random.default_rng(0)
  shapes = jax.eval_shape(task.init, keys.seed(0))
  return jax.tree.map(lambda p: jnp.asarray(size * random.normal(size=p.shape), p.dtype), shapes)


def covariance_of(model, k):
  """The covariance of a component of the first class."""
  factor = np.asarray(model["factor"][0, k], float)
  scaled = np.exp(np.diag(factor))[:, None] * (np.eye(len(factor)) + np.tril(factor, -1))
  return np.linalg.inv(scaled.T @ scaled)


def bits(task, params, images):
  (measure,) = task.likelihoods.values()
  data = {"image": jnp.asarray(images), "index": jnp.arange(len(images))}
  return np.asarray(
    measure(params, {}, data, keys.of_examples(keys.seed(3), jnp.arange(len(images))))["bits"]
  )


@pytest.mark.parametrize("network", ["made", "pixelcnn"])
def test_all_images_of_2x2_pixels_with_2_levels_have_1_in_sum(network):
  options = {
    f"model.{network}.{k}": v
    for k, v in {"made": {"hidden": (9,)}, "pixelcnn": {"width": 4}}[network].items()
  }
  task = make("autoregressive", **{"model.autoregressive": network, "model.softmax.levels": 2}, **options)
  images = 255 * ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(np.uint8).reshape(16, 2, 2, 1)
  chances = 2.0 ** (-4 * bits(task, moved(task), images))
  np.testing.assert_allclose(chances.sum(), 1, rtol=1e-5)
  assert chances.std() > 0.01


def test_densities_of_a_mixture_are_scipys_and_its_samples_have_its_covariance():
  random = np.random.default_rng(1)
  params = {
    "logits": jnp.asarray([[0.4, -0.3]]),
    "mean": jnp.asarray(random.normal(size=(1, 2, 3)), jnp.float32),
    "factor": jnp.asarray(random.normal(size=(1, 2, 3, 3)), jnp.float32),
  }
  x = random.normal(size=(5, 3)).astype(np.float32)
  result = log_densities(params, jnp.asarray(x))
  for k in range(2):
    covariance = covariance_of(params, k)
    truth = multivariate_normal(params["mean"][0, k], covariance).logpdf(x)
    np.testing.assert_allclose(result[:, 0, k], truth, rtol=1e-4)
    weighed = truth + np.log(np.exp(params["logits"][0, k]) / np.exp(params["logits"][0]).sum())
    np.testing.assert_allclose(log_joint(params, jnp.asarray(x))[:, 0, k], weighed, rtol=1e-4)
    eps = random.normal(size=(20_000, 3)).astype(np.float32)
    drawn = np.asarray(coloured(jnp.broadcast_to(params["factor"][0, k], (20_000, 3, 3)), jnp.asarray(eps)))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0.1, atol=0.03 * covariance.max())


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_expectation_maximisation_climbs_as_scikit_learns_to_the_two_gaussians_that_are_there():
  task = make("mixture", (1, 2, 1), **{"task.mixture.components": 2, "task.mixture.floor": 1e-4})
  random = np.random.default_rng(2)
  covariance = np.asarray([[120, 60], [60, 90]])
  parts = [
    random.multivariate_normal(mean, covariance, size) for mean, size in (((90, 100), 300), ((150, 150), 100))
  ]
  images = np.clip(np.round(np.concatenate(parts)), 0, 255).astype(np.uint8)[random.permutation(400)]
  data = {"image": jnp.asarray(images.reshape(400, 1, 2, 1)), "index": jnp.arange(400)}
  draws = keys.Draws(keys.seed(0), jnp.arange(400), 400)

  @jax.jit
  def step(params, memory):
    result = task.loss(params, {}, data, draws, memory)
    return *task.record(params, memory, result.seen), result.each.mean()

  begun, memory, _ = step(task.init(keys.seed(0)), task.start())
  params, losses, fourth = begun, [], None
  for k in range(25):
    params, memory, loss = step(params, memory)
    losses.append(float(loss))
    fourth = params if k == 3 else fourth
  assert (np.diff(losses) < 1e-5).all() and losses[-1] < losses[0]
  start = begun["model"]
  peer = GaussianMixture(
    2,
    tol=0,
    max_iter=4,
    reg_covar=1e-4,
    init_params="random",
    weights_init=jax.nn.softmax(start["logits"][0].astype(float)),
    means_init=start["mean"][0],
    precisions_init=[np.linalg.inv(covariance_of(start, k)) for k in range(2)],
  )
  x = images.reshape(400, 2) / 127.5 - 1
  peer.fit(x)
  ours = jax.nn.logsumexp(log_joint(fourth["model"], jnp.asarray(x, jnp.float32)), axis=(1, 2)).mean()
  np.testing.assert_allclose(ours, peer.score(x), rtol=1e-5)
  np.testing.assert_allclose(fourth["model"]["mean"][0], peer.means_, atol=1e-5)
  model, first = params["model"], int(np.argmax(params["model"]["logits"][0]))
  np.testing.assert_allclose(jax.nn.softmax(model["logits"])[0, first], 0.75, atol=0.03)
  for k, mean in ((first, (90, 100)), (1 - first, (150, 150))):
    np.testing.assert_allclose((model["mean"][0, k] + 1) * 127.5, mean, atol=4)
    np.testing.assert_allclose(covariance_of(model, k) * 127.5**2, covariance, atol=35)


def test_a_flow_and_a_mixture_that_hold_the_same_gaussian_have_the_same_bits():
  levels, margin = 17, 0.49  # the logit is a line so near to its middle: v = 4 (1 - 2 margin) (y - 1/2)
  flow = make(
    "flow", **{"task.flow.levels": levels, "task.flow.margin": margin, "model.realnvp.hidden": (4,)}
  )
  mixture = make("mixture", **{"task.mixture.components": 1, "task.mixture.levels": levels})
  params = mixture.init(keys.seed(0))
  std = 2 * levels / (levels - 1) / (4 * (1 - 2 * margin))  # of x = (2 y - 1) levels / (levels - 1)
  params["model"]["factor"] = -np.log(std) * jnp.eye(4)[None, None]
  images = np.random.default_rng(3).integers(0, 256, (6, 2, 2, 1), np.uint8)
  np.testing.assert_allclose(
    bits(flow, flow.init(keys.seed(0)), images), bits(mixture, params, images), rtol=1e-4
  )


def test_a_flow_of_the_identity_has_the_density_of_a_normal_logit():
  flow = make("flow", **{"task.flow.levels": 5, "task.flow.margin": 0.1, "model.realnvp.hidden": (4,)})
  grid = np.linspace(0, 255, 5).round().astype(np.uint8)
  images = np.stack(np.meshgrid(*[grid] * 4, indexing="ij"), -1).reshape(-1, 2, 2, 1)
  chances = 2.0 ** (-4 * bits(flow, flow.init(keys.seed(0)), images))
  inside = 0.97193  # of N(0, 1) between logit(0.1) and logit(0.9), = +-2.19722
  assert abs(chances.sum() - inside**4) < 0.05  # each by one draw in its bin


def test_a_flow_that_is_not_the_identity_learns_the_density_of_a_gaussian():
  net = RealNVP(couplings=2, hidden=(16,), shape=(2, 2, 1))
  random = np.random.default_rng(4)
  mean, factor = random.normal(size=4), np.eye(4) + 0.5 * random.normal(size=(4, 4))
  gaussian = multivariate_normal(mean, factor @ factor.T)
  x, held_out = (jnp.asarray(gaussian.rvs(n, random_state=k), jnp.float32) for k, n in ((0, 4000), (1, 500)))

  def log_density(params, x):
    z, logdet = net.apply({"params": params}, x.reshape(-1, 2, 2, 1), {})
    return logdet - 0.5 * jnp.sum(z.reshape(len(x), -1) ** 2 + jnp.log(2 * jnp.pi), axis=1)

  adam = optax.adam(optax.cosine_decay_schedule(1e-2, 400))

  def step(carry, batch):
    params, state = carry
    gradient = jax.grad(lambda p: -log_density(p, batch).mean())(params)
    updates, state = adam.update(gradient, state)
    return (optax.apply_updates(params, updates), state), None

  params = net.init(keys.seed(0), jnp.zeros((1, 2, 2, 1)), {})["params"]
  batches = x[random.integers(0, len(x), (400, 256))]
  before = np.abs(log_density(params, held_out) - gaussian.logpdf(held_out)).mean()
  (params, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, adam.init(p)), batches))(params)
  gap = np.asarray(log_density(params, held_out)) - gaussian.logpdf(held_out)
  assert np.abs(gap).mean() < 0.2 < 1 < before and abs(gap.mean()) < 0.05
