"""The task "autoencoder": an encoder, a bottleneck and a decoder of images, as latent diffusion needs one.

    loss = sum over the config's terms of weight x term                                               (1)
    moments = encode(x0),   z = bottleneck(moments),   x = mean of the decoder at z

With the bottleneck "gaussian" it is a variational autoencoder (Kingma & Welling 2014), and where the terms are nll and
kl of weight 1 the loss is minus the evidence lower bound. A small weight of the KL, 1e-6 in Rombach et al. 2022, keeps
the latents near the unit Gaussian and no more; where they lie is measured by what uses them (spaces.py).

Samples are decoded from the prior N(0, 1), which shows how far the latents are from it. On its way a sample walks there
from another, a, by z(s) = cos(s) a + sin(s) b, s from 0 to pi/2, which is distributed like a and b wherever it stands.

A network may be told conditions, by which encoder, decoder and likelihood are conditional (Sohn et al. 2015). What
others would encode by such a one has none to tell it, so that it serves no other run.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.gaussian import sum_dims
from diffjax.models.autoencoder import Moments, draw
from diffjax.spaces import Space, of_pixels
from diffjax.tasks.adversarial import DISCRIMINATOR, adaptive_weight
from diffjax.tasks.bottleneck import Bottleneck, Passed
from diffjax.tasks.bounds import Bounded
from diffjax.tasks.decoders import Decoder
from diffjax.tasks.images import Images, images
from diffjax.tasks.reconstruction import Reconstruction, Term
from diffjax.tasks.task import Drawing, Loss, Task, bind
from diffjax.types import Batch, Keys, Params, Unsuitable

STOPS = 10  # of a walk between two codes


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """The parts of an autoencoder.

  Attributes:
    space: of the images.
    network: the encoder and the decoder.
    bottleneck: what stands between them.
    decoder: what the network's numbers say.
    terms: of the loss.
    discriminator: of the images, where a term needs one.
    cond: what the network is told of the examples at hand.
  """

  space: Space
  network: nn.Module
  bottleneck: Bottleneck
  decoder: Decoder
  terms: tuple[Term, ...]
  discriminator: nn.Module | None = None
  cond: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def conditional(self, cond: Mapping[str, Any]) -> "Autoencoder":
    """The same of examples with these conditions."""
    return dataclasses.replace(self, cond=cond)

  def apply(self, params: Params, x: Array, method: str) -> Any:
    """What the network answers."""
    cond = (self.cond,) if self.cond else ()
    return self.network.apply({"params": params["model"]}, x, *cond, method=method)

  def encode(self, params: Params, x0: Batch) -> Moments:
    """The moments of images."""
    return self.apply(params, x0, "encode")

  def through(self, params: Params, moments: Moments, eps: Array | None) -> Passed:
    """What passes the bottleneck."""
    return self.bottleneck.through(params.get("codebook", {}), moments, eps)

  def output(self, params: Params, z: Array) -> Array:
    """What the network says of the images of latents."""
    return self.apply(params, z, "decode")

  def decode(self, params: Params, z: Array) -> Batch:
    """The images of any latents."""
    return self.decoder.mean(self.output(params, self.bottleneck.settled(params.get("codebook", {}), z)))

  def noise(self, moments: Moments, example_keys: Keys) -> Array:
    """Unit normal numbers like the latent's."""
    return keys.normal(example_keys, moments.mean.shape[1:], moments.mean.dtype)

  def reconstruction(self, params, frozen, x0: Batch, passed: Passed, out: Array) -> Reconstruction:
    """What the terms see of the network's answer."""
    nll = {"nll": self.decoder.nll(x0, out)} if self.decoder.nll else {}
    pair = Reconstruction(x0, self.decoder.mean(out), {**passed.costs, **nll}, frozen)
    if self.discriminator is None:
      return pair

    def judge(weights):
      return lambda x: self.discriminator.apply({"params": weights}, x)

    weights = params[DISCRIMINATOR]
    return pair._replace(judge=judge(jax.lax.stop_gradient(weights)), judge_learning=judge(weights))

  def answer(self, params: Params, z: Array, pair_of: Callable) -> tuple[Array, Array | float]:
    """What the network says of latents, and the factor on adaptive terms' weights."""
    adaptive = [term for term in self.terms if term.adaptive]
    if not adaptive:
      return self.output(params, z), 1.0
    others = [term for term in self.terms if not term.adaptive and term.needs != DISCRIMINATOR]
    path = self.network.LAST
    last = functools.reduce(lambda tree, name: tree[name], path, params["model"])
    out, pull = jax.vjp(lambda last: self.output({"model": _replaced(params["model"], path, last)}, z), last)
    of = lambda terms: lambda out: sum(term.weight * term.of(pair_of(out)) for term in terms)
    return out, adaptive_weight(pull, out, of(others), lambda out: sum(t.of(pair_of(out)) for t in adaptive))

  def bounded(self, params: Params, x0: Batch) -> Bounded:
    """Draws of the evidence lower bound and of its importance weights."""
    moments = self.encode(params, x0)

    def sample(sample_keys):
      eps = self.noise(moments, keys.purpose(sample_keys, "latent"))
      z = draw(moments, eps)
      return eps, z, -self.decoder.nll(x0, self.output(params, z))

    def bound(sample_keys):
      return sample(sample_keys)[2] - self.through(params, moments, None).costs["kl"]

    def log_weight(sample_keys):
      eps, z, log_likelihood = sample(sample_keys)
      return log_likelihood + sum_dims(eps**2 - z**2 + moments.logvar) / 2

    return Bounded(bound, log_weight)


def autoencoder(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  augmentation: Callable[..., Augmentation],
  autoencoder: Callable[..., nn.Module],
  bottleneck: Callable[..., Bottleneck],
  decoder: Callable[..., Decoder],
  discriminator: Callable[..., nn.Module],
  terms: Mapping[str, Callable[..., tuple[Term, ...]]],
  bounds: Mapping[str, Callable],
  dtype: str,
  fields: Mapping[str, Field],
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: what the network is told.
    augmentation: one that tells nothing.
    autoencoder: the network.
    bottleneck: what stands between encoder and decoder.
    decoder: what the network's numbers say.
    discriminator: of the images, made where a term needs it.
    terms: of the loss.
    bounds: of the likelihood, measured by --mode=eval.
    dtype: of the network's computation.
    fields: of the data.

  Raises:
    ConfigError: parts that do not go together.
  """
  of, bottleneck, decoder = images(space, conditions, fields, augmentation), bottleneck(), decoder()
  space = of.space
  about = {"shape": space.shape, "variational": bottleneck.variational, "conditions": of.embeds}
  network = bind(autoencoder, **about)(out_channels=space.shape[-1] * decoder.outputs, dtype=dtype)
  if of.embeds and getattr(network, "conditions", ()) != of.embeds:
    raise Unsuitable("conditions", "which this network cannot be told; choose ()")
  terms = tuple(term for make in terms.values() for term in make())
  judge = discriminator(dtype=dtype) if any(term.needs == DISCRIMINATOR for term in terms) else None
  model = Autoencoder(space, network, bottleneck, decoder, terms, judge)
  _check(model, bool(bounds))

  def init(key):
    x0, cond = of.blank()
    params = network.init(key, x0, **({"cond": cond} if cond else {}))["params"]
    channels = _latent_shape(model, {"model": params}, cond)[-1]
    codebook = bottleneck.init(keys.purpose(key[None], "codebook")[0], channels)
    return {
      "model": params,
      **({"codebook": codebook} if codebook else {}),
      **({DISCRIMINATOR: _initial(judge, key, space.shape)} if judge else {}),
    }

  def loss(params, frozen, data, draws, memory):
    x0, cond = of.read(data, draws)
    here = model.conditional(cond)
    moments = here.encode(params, x0)
    passed = here.through(params, moments, here.noise(moments, draws.keys("latent")))
    pair_of = functools.partial(here.reconstruction, params, frozen, x0, passed)
    out, factor = here.answer(params, passed.z, pair_of)
    pair, shared = pair_of(out), dict(bottleneck.logs(memory))
    values, total = {term.name: term.of(pair) for term in terms}, 0.0
    for term in terms:
      weight = term.weight * (draws.step >= term.start if term.start else 1.0)
      if term.adaptive:
        weight = shared[f"{term.name}_weight"] = weight * factor
      total += weight * values[term.name]
    return Loss(total, passed.seen, values | {n: jnp.broadcast_to(x, total.shape) for n, x in shared.items()})

  def held_out(params, frozen, data, case):
    x0, cond = of.read(data)
    here = model.conditional(cond)
    passed = here.through(params, here.encode(params, x0), None)
    pair = here.reconstruction(params, frozen, x0, passed, here.output(params, passed.z))
    values = {term.name: term.of(pair) for term in terms if term.needs != DISCRIMINATOR}
    if {"kl", "nll"} <= pair.costs.keys():
      values["elbo"] = here.bounded(params, x0).bound(keys.of_examples(keys.seed(0), data["index"]))
    return values

  def latents_of(params, images):
    moments = model.encode(params, of_pixels(images))
    return {"mean": moments.mean, "std": jnp.exp(moments.logvar / 2)}

  def start():
    return bottleneck.start(_latent_shape(model, jax.eval_shape(init, keys.seed(0)), of.blank()[1])[-1])

  def record(params, memory, seen):
    codebook, memory = bottleneck.record(params.get("codebook", {}), memory, seen)
    return {**params, **({"codebook": codebook} if codebook else {})}, memory

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=_drawing(model, of),
    likelihoods={name: _likelihood(model, of, measure) for name, measure in bounds.items()},
    can={} if of.embeds else {"encode": latents_of, "decode": model.decode},
    start=start,
    record=record,
    couples=any(term.adaptive for term in terms) or bool(judge and judge.couples),
    frozen={name: weights for term in terms for name, weights in term.frozen.items()},
  )


def _check(model: Autoencoder, bounded: bool) -> None:
  """Raises ConfigError where a term or a bound needs what bottleneck and decoder do not give."""
  if not model.terms:
    raise Unsuitable("terms", "which is empty; name some, ('l2', 'kl') say")
  for name in model.bottleneck.needs:
    if not any(term.name == name and term.weight for term in model.terms):
      raise Unsuitable(
        "terms",
        f"which has no {name!r} of a weight above 0, and nothing else trains what this config.model.bottleneck learns "
        "by the loss; name it, or choose another config.model.vq.learning",
      )
  costs = {*model.bottleneck.costs, *(("nll",) if model.decoder.nll else ()), DISCRIMINATOR}
  if bounded and not {"kl", "nll"} <= costs:
    raise Unsuitable(
      "bounds",
      "which needs a likelihood; choose config.model.decoder = 'bernoulli' or 'gaussian', and "
      "config.model.bottleneck = 'gaussian'",
    )
  for term in model.terms:
    if term.needs and term.needs not in costs:
      where = "decoder" if term.needs == "nll" else "bottleneck"
      raise Unsuitable("terms", f"which names {term.name!r}, and this config.model.{where} has none")


def _latent_shape(model: Autoencoder, params: Params, cond: Mapping[str, Any]) -> tuple[int, ...]:
  """Of one example, whatever the examples of the conditions are."""
  return jax.eval_shape(
    model.conditional(cond).encode, params, jnp.zeros((1, *model.space.shape))
  ).mean.shape[1:]


def _initial(network: nn.Module, key, shape: tuple[int, ...]) -> Params:
  return network.init(keys.purpose(key[None], DISCRIMINATOR)[0], jnp.zeros((1, *shape)))["params"]


def _replaced(tree: Params, path: tuple[str, ...], leaf: Array) -> Params:
  """The tree with another leaf at a path."""
  name, *rest = path
  return {**tree, name: _replaced(tree[name], tuple(rest), leaf) if rest else leaf}


def _likelihood(model: Autoencoder, of: Images, measure: Callable) -> Callable:
  """Bits per dimension and nats of held-out images by one of BOUNDS, and the decodings that they took, all [B]."""

  def bits(params, frozen, data, sample_keys):
    x0, cond = of.read(data)
    nats, nfe = measure(model.conditional(cond).bounded(params, x0), sample_keys)
    return {
      "bits": nats / (x0[0].size * jnp.log(2.0)),
      "nats": nats,
      "nfe": jnp.full(nats.shape, nfe, jnp.int32),
    }

  return bits


def _drawing(model: Autoencoder, of: Images) -> Drawing:
  """Latents from the prior, decoded."""

  def begin(params, frozen, plan, data, sample_keys):
    return jnp.zeros(len(data["index"]))

  def advance(params, frozen, plan, data, sample_keys, carry, start, stop):
    shape, angle = _latent_shape(model, params, of.blank()[1]), jnp.pi / 2 * stop / STOPS
    there, here = (keys.normal(keys.purpose(sample_keys, name), shape) for name in ("walk", "prior"))
    z = jnp.cos(angle) * there + jnp.sin(angle) * here
    x0 = model.conditional(of.cond(data)).decode(params, z)
    return carry, x0, x0

  return Drawing(plan=(), stops=STOPS, begin=begin, advance=advance, show=model.space.decode, evaluations=1)
