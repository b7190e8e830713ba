"""The task autoencoder: what its loss is, what it draws and walks through, and parts that do not go together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.models import AUTOENCODERS
from diffjax.types import ConfigError, Trained

B, FIELDS = 3, {"image": Field((4, 4, 1), "uint8"), "label": Field((), "int32", 3)}
DENSE = {
  "task.name": "autoencoder",
  "model.autoencoder": "vae",
  "model.vae.hidden": (8,),
  "model.vae.latent": 2,
  "model.decoder": "bernoulli",
  "objective.terms": ("nll", "kl"),
  "objective.kl.weight": 0.7,
}
LEARNED = {"model.bottleneck": "vq", "model.vq.learning": "loss", "model.decoder": "mean"}
IMAGES = np.random.default_rng(0).integers(0, 256, (B, 4, 4, 1), np.uint8)
DATA = {"image": jnp.asarray(IMAGES), "index": jnp.arange(B)}


@functools.cache
def make(*changes, find=experiment.no_runs):
  config = configs.base()
  config.train.batch_size = B
  config.update_from_flattened_dict(dict(changes))
  return experiment.create(config, FIELDS, find)


def dense(**changes):
  return make(*(DENSE | changes).items()).task


def params_of(task):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(task.init, keys.seed(0))
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


def change(part, label):
  """Layers that were told this class: its row of the table stands in the first one's bias."""
  row = part["embedding"]["classes"]["embedding"][label]
  return part | {"dense_0": part["dense_0"] | {"bias": part["dense_0"]["bias"] + row}}


def numpy_network(params, images):
  """Mean, log-variance, and what is decoded from a latent, by hand."""
  model = jax.tree.map(lambda x: np.asarray(x, np.float64), params["model"])

  def layers(part, h):
    h = h @ model[part]["dense_0"]["kernel"] + model[part]["dense_0"]["bias"]
    return h / (1 + np.exp(-h)) @ model[part]["out"]["kernel"] + model[part]["out"]["bias"]

  mean, logvar = np.split(layers("encoder", (images / 127.5 - 1).reshape(B, -1)), 2, axis=1)
  return mean, logvar, functools.partial(layers, "decoder")


def test_the_loss_is_the_weighted_sum_and_its_logs_the_formulas():
  task = dense()
  params, draws = params_of(task), keys.Draws(keys.seed(4), jnp.arange(B), B)
  result = task.loss(params, {}, DATA, draws, task.start())
  mean, logvar, decoded = numpy_network(params, IMAGES)
  z = mean + np.exp(logvar / 2) * np.asarray(keys.normal(draws.keys("latent"), (2,)))
  u, logits = IMAGES.reshape(B, -1) / 255, decoded(z)
  nll = (np.logaddexp(0, logits) - u * logits).sum(1)
  kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(1)
  np.testing.assert_allclose(result.logs["nll"], nll, rtol=1e-4)
  np.testing.assert_allclose(result.logs["kl"], kl, rtol=1e-4)
  np.testing.assert_allclose(result.each, nll + 0.7 * kl, rtol=1e-4)


def test_a_condition_joins_the_first_layers_and_samples_and_likelihoods_are_under_it():
  task = dense(**{"condition.names": ("label",), "condition.label.dropout": 0.0, "eval.bound": ("elbo",)})
  params, draws = params_of(task), keys.Draws(keys.seed(4), jnp.arange(B), B)
  labels = np.asarray([2, 0, 1])
  data = DATA | {"label": jnp.asarray(labels)}
  assert set(task.fields) == {"image", "label"} and not task.can
  result = task.loss(params, {}, data, draws, task.start())
  own, drawing = keys.of_examples(keys.seed(2), jnp.arange(B)), task.draw
  drawn = drawing.advance(params, {}, drawing.plan, data, own, None, 0, drawing.stops)[2]
  drawn_from = np.asarray(keys.normal(keys.purpose(own, "prior"), (2,)))
  for b, label in enumerate(labels):
    model = params["model"] | {part: change(params["model"][part], label) for part in ("encoder", "decoder")}
    mean, logvar, decoded = numpy_network({"model": model}, IMAGES)
    z = mean + np.exp(logvar / 2) * np.asarray(keys.normal(draws.keys("latent"), (2,)))
    u, logits = IMAGES.reshape(B, -1) / 255, decoded(z)
    nll, kl = np.logaddexp(0, logits) - u * logits, mean**2 + np.exp(logvar) - 1 - logvar
    np.testing.assert_allclose(result.logs["nll"][b], nll.sum(1)[b], rtol=1e-4)
    np.testing.assert_allclose(result.logs["kl"][b], 0.5 * kl.sum(1)[b], rtol=1e-4)
    want = 2 / (1 + np.exp(-decoded(drawn_from)[b])) - 1
    np.testing.assert_allclose(drawn[b].ravel(), want, atol=1e-4)
  bits = lambda data: task.likelihoods["elbo"](params, {}, data, own)["bits"]
  gap = bits(data) - bits(data | {"label": data["label"].at[1].set(1)})
  np.testing.assert_array_equal(gap != 0, [False, True, False])


def test_held_out_images_are_measured_at_the_mean_and_by_one_draw_of_the_bound():
  task = dense()
  params = params_of(task)
  result = task.held_out(params, {}, DATA, ())
  mean, logvar, decoded = numpy_network(params, IMAGES)
  u, logits = IMAGES.reshape(B, -1) / 255, decoded(mean)
  np.testing.assert_allclose(result["nll"], (np.logaddexp(0, logits) - u * logits).sum(1), rtol=1e-4)
  assert set(result) == {"nll", "kl", "elbo"} and np.all(result["elbo"] < 0)


def test_the_walk_turns_one_code_into_another_and_stays_in_the_prior():
  task = dense(**{"model.decoder": "mean", "objective.terms": ("l2", "kl")})
  params, drawing = params_of(task), task.draw
  index = jnp.arange(400)
  own = keys.of_examples(keys.seed(2), index)

  @jax.jit
  def at(stop):
    carry = drawing.begin(params, {}, drawing.plan, {"index": index}, own)
    return drawing.advance(params, {}, drawing.plan, {"index": index}, own, carry, 0, stop)[2]

  decode = lambda z: task.can["decode"](params, z)
  a, b = (keys.normal(keys.purpose(own, name), (2,)) for name in ("walk", "prior"))
  np.testing.assert_allclose(at(0), decode(a), atol=1e-4)
  np.testing.assert_allclose(at(drawing.stops), decode(b), atol=1e-4)
  half = np.sqrt(0.5) * (a + b)
  np.testing.assert_allclose(at(drawing.stops // 2), decode(half), atol=1e-4)
  assert abs(np.asarray(half).std() - 1) < 0.1


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"objective.terms": ()}, r"config.objective.terms is \(\), which is empty"),
    (
      {"model.decoder": "mean"},
      r"config.objective.terms is .*which names 'nll', and this config.model.decoder has none",
    ),
    ({"model.bottleneck": "vq"}, "which names 'kl', and this config.model.bottleneck has none"),
    (
      LEARNED | {"objective.terms": ("l2", "commitment")},
      r"config.objective.terms is .*, which has no 'codebook' of a weight above 0, .* config.model.vq.learning",
    ),
    (
      LEARNED | {"objective.terms": ("l2", "codebook"), "objective.codebook.weight": 0.0},
      "which has no 'codebook' of a weight above 0",
    ),
    (
      {"objective.terms": ("nll", "codebook")},
      "which names 'codebook', and this config.model.bottleneck has none",
    ),
    (
      {"objective.terms": ("l2",), "model.decoder": "mean", "eval.bound": ("elbo",)},
      r"config.eval.bound is \('elbo',\), which needs a likelihood; choose config.model.decoder",
    ),
    (
      {"data.augment": "nonleaking"},
      "config.data.augment is 'nonleaking', which tells a network what was done",
    ),
    (
      {"model.autoencoder": "kl", "model.kl.multipliers": (1,), "condition.names": ("label",)},
      r"config.condition.names is \('label',\), which this network cannot be told; choose \(\)",
    ),
    ({"model.autoencoder": "kl"}, "config.model: multipliers=.* halves the image 3 times"),
    ({"objective.terms": ("l2", "adversarial")}, "config.model: layers=3 needs images of 24 pixels a side"),
  ],
)
def test_parts_that_do_not_go_together_are_told(changes, words):
  with pytest.raises(ConfigError, match=words):
    dense(**changes)


LATENT = Trained(
  "runs/vae",
  {
    "encode": lambda params, images: {name: images.astype(jnp.float32) for name in ("mean", "std")},
    "decode": lambda params, z: z,
    "statistics": lambda params: (0.0, 1.0),
  },
  {},
  "",
)


@pytest.mark.parametrize(
  "changes, words",
  [
    (
      {"eval.likelihood": ("ode",)},
      "the model is of latents or of scaled pixels, whose density is not that of the data; leave it empty",
    ),
    (
      {"data.augment": "flip"},
      "config.data.augment is 'flip', which changes pixels, .* config.space.latent.mirrored",
    ),
    (
      {"sample.guides": ("clip",)},
      "which names one that speaks of the range of the data, of which the space leaves none",
    ),
  ],
)
def test_diffusion_of_latents_refuses_what_is_of_pixels(changes, words):
  latent = {"space.name": "latent", "space.latent.run": "runs/vae", "sample.guides": ()}
  latent |= {"model.unet.channels": 8, "model.unet.multipliers": (1,), "model.unet.attention": ()}
  with pytest.raises(ConfigError, match=words):
    make(*(latent | changes).items(), find=lambda place, wants: LATENT)


def test_a_run_whose_task_cannot_encode_is_refused():
  latent = {"space.name": "latent", "space.latent.run": "runs/x", "sample.guides": ()}
  message = "config.space.latent.run is 'runs/x': .* cannot encode; it can denoise. .*task.name=autoencoder or clip can"
  with pytest.raises(ConfigError, match=message):
    make(*latent.items(), find=lambda place, wants: Trained(place, {"denoise": None}, {}, ""))


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_network_says_where_its_last_layer_is(name):
  changes = {"model.autoencoder": name, "model.kl.multipliers": (1,), "model.kl.channels": 8}
  model = jax.eval_shape(dense(**changes, **{"model.kl.attention": False}).init, keys.seed(0))["model"]
  for part in AUTOENCODERS[name].__wrapped__.LAST:
    model = model[part]
  assert model.shape[-1] == {"vae": 16, "kl": 1}[name]
