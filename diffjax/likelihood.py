"""Bits per dimension: by DDPM's chain, by VDM's integral, and by the probability-flow ODE.

    vlb = discrete_vlb(denoiser, schedule, images, sample_keys)       # images uint8 [B, H, W, C]
    vlb = continuous_vlb(denoiser, schedule, images, sample_keys)
    ode = ode_likelihood(denoiser, schedule, images, sample_keys)
    mean, error = mean_and_error(vlb.total)                           # over all the images

Everything is pure and may be jitted; example i draws from key i alone, and its value does not depend on the
rest of its batch. In nats, with n dimensions, s one row before t, and L = log-SNR:

    L_T     = KL(q(x_1 | x0) || N(0, prior_std^2))                                                    (1)
    L_{t-1} = KL(q(x_s | x_t, x0) || N(mean of q(x_s | x_t, D(x_t, t)), var))                         (2)
    L_0     = -log of the Gaussian around D(x_t, t) at the first row, in x0's bin                     (3)

sum to the bound of Ho et al. 2020, eq. 5; the means in (2) differ by alpha_s c (x0 - D), with c as in
gaussian.py. In continuous time (2) becomes an integral over the log-SNR, and (3) the decoder:

    L_diff  = 1/2 E int exp(L) |x0 - D|^2 dL                                                          (4)
    L_0     = -log p(x0 | x_t) at t_min,  p(x0 | x_t) ~ q(x_t | x0), over the levels of each pixel   (5)

(Kingma et al. 2021, eq. 11, 15 and 8.) The ODE in the log-SNR, on which no schedule but its ends depends,
and the density along it (Song et al. 2021, eq. 13 and 39):

    dx/dL = alpha' D + sigma' (x - alpha D) / sigma,     d log p(x) / dL = -div (dx/dL)               (6)

give log p at t_min, and dequantisation.py, equations (7) and (8), what that says of discrete pixels.

`levels` is the number of values that pixels have, 256 or as many as the data use, evenly spaced. (4) to (8) are bounds
from any log-SNR on. Where noise has long been narrower than a bin, a denoiser's smallest error costs bits by (4)
though the decoder knows the pixel already: for few levels `logsnr_max` starts where the bin is some sigma wide. Half a
bin, 1 / (levels - 1), is 3 sigma / alpha at 2 log(3 (levels - 1)): 7.7 for 17 levels, and 13.3, VDM's own, for 256.
Data that are not uint8 are taken as continuous: the bins become densities in the unit of the data, (5) a
Gaussian, and (7) draws nothing. Log-SNRs beyond +-20 are cut there.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt8

from diffjax import keys
from diffjax.denoisers import Denoiser, per_example
from diffjax.dequantisation import DEQUANTISATIONS, decoder_nll, gaussian_nll, noisy
from diffjax.gaussian import (
  diffuse,
  discretized_nll,
  expand,
  kl,
  learned_logvar,
  lost_snr,
  mean_dims,
  posterior_variance,
  prior_kl,
  sum_dims,
)
from diffjax.levels import Levels, ranks, values
from diffjax.ranges import Count, NotNegative, Positive, checked, closed, one_of
from diffjax.samplers.ancestral import VarFrac, Variance, variance_rule
from diffjax.scales import SCALES
from diffjax.schedules import Schedule
from diffjax.types import Batch, ConfigError, Keys, PerExample, Times

LIMIT = 20.0  # log-SNRs are cut to +-LIMIT
LogsnrMax = Annotated[float, closed(0, LIMIT)]
TRACES = ("hutchinson", "exact")

Data = UInt8[ArrayLike, "b *dims"] | Float[ArrayLike, "b *dims"]


class Vlb(NamedTuple):
  """A variational bound in bits per dimension, each term [B].

  Attributes:
    total: their sum, the bound.
    prior: equation (1).
    diffusion: the sum of (2), or the integral (4).
    decoder: equation (3) or (5).
    nfe: evaluations of the denoiser for each example.
  """

  total: PerExample
  prior: PerExample
  diffusion: PerExample
  decoder: PerExample
  nfe: int


class Likelihood(NamedTuple):
  """A log-likelihood by the ODE.

  Attributes:
    total: [B] bits per dimension; NaN where the solver gave up.
    nfe: [B] evaluations of the denoiser (each with the derivative along the probes).
    tolerance: [B] what the solver's steps may have added to `total`: as many as there were, each within its bound.
  """

  total: PerExample
  nfe: Int[Array, "b"]
  tolerance: PerExample | float = 0.0


def mean_and_error(values: Float[ArrayLike, "b"]) -> tuple[float, float]:
  """The mean over the examples and its standard error, which the Monte Carlo error of each is part of."""
  values = np.asarray(values, np.float64)
  error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
  return float(values.mean()), float(error)


def discrete_vlb(
  denoiser: Denoiser,
  schedule: Schedule,
  images: Data,
  sample_keys: Keys,
  variance: Variance = "fixed_large",
  var_frac: VarFrac = None,
  levels: Levels = 256,
) -> Vlb:
  """DDPM's bound, equations (1) to (3), with one draw of the noise at every row.

  Args:
    denoiser: the denoiser (DDPM clips its estimate).
    schedule: a table of T steps; the denoiser is evaluated T times.
    images: uint8 [B, ...], or continuous data.
    sample_keys: [B].
    variance: of the reverse chain, as the ancestral sampler's. At the first row a fixed one is the second row's
      posterior variance, as in DDPM's code, and a learned one is iDDPM's.
    var_frac: with the variance "fixed_medium", as the ancestral sampler's.
    levels: of the pixels.

  Raises:
    ConfigError: the schedule is not a table, or the variance is unknown.
  """
  if schedule.steps is None:
    raise ConfigError(
      "discrete_vlb is the bound over a table's rows, but the schedule is continuous; choose 'continuous_vlb', 'ode' "
      "or a schedule with steps."
    )
  rule = variance_rule(variance, var_frac)
  x0, discrete = _data(images, levels)
  noise_keys = keys.purpose(sample_keys, "eps")

  def estimated(i):
    t = jnp.asarray(i + 1, x0.dtype) / schedule.steps
    eps = keys.normal(keys.fold(noise_keys, i), x0.shape[1:], x0.dtype)
    return t, denoiser(diffuse(schedule, x0, eps, t), t)

  def body(i, total):
    t, estimate = estimated(i)
    s = jnp.asarray(i, x0.dtype) / schedule.steps
    gap = schedule.alpha_sigma(s)[0] * lost_snr(schedule, s, t) * (x0 - estimate.x0)
    true, model = posterior_variance(schedule, s, t), rule(schedule, s, t, estimate)
    return total + mean_dims(kl(gap, jnp.log(true), jnp.zeros_like(gap), jnp.log(model)))

  diffusion = jax.lax.fori_loop(1, schedule.steps, body, jnp.zeros(len(x0), x0.dtype))
  first, second = (jnp.asarray(k / schedule.steps, x0.dtype) for k in (1, 2))
  mean, var_frac = estimated(0)[1]
  if variance == "learned":
    std = jnp.exp(learned_logvar(schedule, var_frac, first) / 2)
  else:
    std = jnp.sqrt(posterior_variance(schedule, first, second))
  decoder = mean_dims(discretized_nll(x0, mean, std, levels) if discrete else gaussian_nll(x0, mean, std))
  return _vlb(prior_kl(schedule, x0) / x0[0].size, diffusion, decoder, schedule.steps)


def continuous_vlb(
  denoiser: Denoiser,
  schedule: Schedule,
  images: Data,
  sample_keys: Keys,
  times: Count = 128,
  levels: Levels = 256,
  logsnr_max: LogsnrMax = LIMIT,
) -> Vlb:
  """VDM's bound, equations (1), (4) and (5), the integral by stratified sampling of the log-SNR.

  Args:
    denoiser: the denoiser.
    schedule: any schedule; the integral runs from t_min to 1.
    images: uint8 [B, ...], or continuous data.
    sample_keys: [B].
    times: log-SNRs for each example, one in each of as many equal parts of the range.
    levels: of the pixels.
    logsnr_max: where the likelihood starts if the schedule starts above.

  Raises:
    ConfigError: no times.
  """
  x0, discrete = _data(images, levels)
  start, end = _ends(schedule, x0.dtype, logsnr_max)
  time_keys, noise_keys = keys.purpose(sample_keys, "t"), keys.purpose(sample_keys, "eps")

  def body(i, total):
    place = (i + keys.uniform(keys.fold(time_keys, i), x0.dtype)) / times
    logsnr = start + (end - start) * place
    eps = keys.normal(keys.fold(noise_keys, i), x0.shape[1:], x0.dtype)
    estimate = denoiser(noisy(schedule, x0, eps, logsnr), schedule.t_of(logsnr)).x0
    return total + jnp.exp(logsnr) * mean_dims((x0 - estimate) ** 2)

  total = jax.lax.fori_loop(0, times, body, jnp.zeros(len(x0), x0.dtype))
  eps = keys.normal(keys.purpose(sample_keys, "decoder"), x0.shape[1:], x0.dtype)
  xt = noisy(schedule, x0, eps, jnp.full(len(x0), start))
  decoder = mean_dims(decoder_nll(schedule, x0, xt, start, discrete, levels))
  alpha, sigma = SCALES[schedule.scale](end)
  prior_logvar = 2 * jnp.log(schedule.prior_std().astype(x0.dtype))
  prior = mean_dims(kl(alpha * x0, 2 * jnp.log(sigma), jnp.zeros_like(x0), prior_logvar))
  return _vlb(prior, 0.5 * (start - end) / times * total, decoder, times)


def ode_likelihood(
  denoiser: Denoiser,
  schedule: Schedule,
  images: Data,
  sample_keys: Keys,
  dequantise: Annotated[str, one_of(DEQUANTISATIONS)] = "auto",
  trace: Annotated[str, one_of(TRACES)] = "hutchinson",
  probes: Count = 1,
  rtol: NotNegative = 1e-5,
  atol: Positive = 1e-5,
  max_steps: Count = 4096,
  levels: Levels = 256,
  logsnr_max: LogsnrMax = LIMIT,
) -> Likelihood:
  """The likelihood by equation (6), each example solved with step sizes of its own (Dormand-Prince 5(4)).

  Args:
    denoiser: the denoiser; differentiated forward along each probe.
    schedule: any schedule.
    images: uint8 [B, ...], or continuous data.
    sample_keys: [B]; they decide the dequantisation and the probes.
    dequantise: one of DEQUANTISATIONS.
    trace: "hutchinson", unbiased with random signs (Hutchinson 1990), fixed along the path; or "exact", one
      derivative a dimension.
    probes: sign vectors for each example.
    rtol: relative tolerance of a step, on x and on the integral of the divergence per dimension alike.
    atol: absolute tolerance. Both must lie well below sigma(t_min) where the model is sharp at that scale, as
      one of discrete pixels is.
    max_steps: steps after which the solver gives up.
    levels: of the pixels.
    logsnr_max: where the likelihood starts if the schedule starts above.

  Raises:
    ConfigError: an unknown dequantisation or trace, or no probes.
  """
  with jax.ensure_compile_time_eval():  # a module's own arrays are not part of what is being traced
    import diffrax  # which takes half a second, and most runs need none of it

  x0, discrete = _data(images, levels)
  size, shape = x0[0].size, x0.shape[1:]
  start, end = _ends(schedule, x0.dtype, logsnr_max)
  x, cost = DEQUANTISATIONS[dequantise](schedule, x0, start, discrete, sample_keys, levels)

  def directions(key):
    if trace == "exact":
      return jnp.eye(size, dtype=x0.dtype).reshape(size, *shape)
    return jax.random.rademacher(key, (probes, *shape), x0.dtype)

  def flow(logsnr, x, vectors):
    """Drift [B, ...] and its divergence per dimension [B]; vectors [B, probes, ...]."""
    drift, along = jax.linearize(lambda x: _drift(denoiser, schedule, x, logsnr), x)
    products = jax.vmap(lambda v: sum_dims(v * along(v)), in_axes=1, out_axes=1)(vectors)
    divergence = products.sum(1) if trace == "exact" else products.mean(1)
    return drift, divergence / size

  probe_keys = keys.purpose(sample_keys, "probe")
  vectors = jax.vmap(directions)(probe_keys)
  field, arrays = per_example(flow, jnp.full(len(x0), start), x, vectors)

  def solve(x, vectors):
    solution = diffrax.diffeqsolve(
      diffrax.ODETerm(lambda logsnr, state, vectors: field(arrays, logsnr, state[0], vectors)),
      diffrax.Dopri5(),
      start,
      end,
      (end - start) / 100,
      (x, jnp.zeros((), x.dtype)),
      vectors,
      stepsize_controller=diffrax.PIDController(rtol, atol, norm=_error_norm),
      max_steps=max_steps,
      throw=False,
    )
    x, divergence = (leaf[-1] for leaf in solution.ys)
    nats = jnp.mean(gaussian_nll(x, 0.0, schedule.prior_std().astype(x.dtype))) - divergence
    solved = solution.result == diffrax.RESULTS.successful
    within = solution.stats["num_accepted_steps"] * (atol + rtol * jnp.abs(divergence))
    return jnp.where(solved, nats, jnp.nan), 6 * solution.stats["num_steps"] + 1, within

  nats, nfe, within = jax.vmap(solve)(x, vectors)
  return Likelihood((nats + cost) / jnp.log(2.0), nfe, within / jnp.log(2.0))


def _drift(denoiser: Denoiser, schedule: Schedule, x: Batch, logsnr: PerExample) -> Batch:
  """dx/dL of equation (6)."""
  pairs = jax.jvp(SCALES[schedule.scale], (logsnr,), (jnp.ones_like(logsnr),))
  (alpha, sigma), (d_alpha, d_sigma) = ((expand(c, x) for c in pair) for pair in pairs)
  x0 = denoiser(x, schedule.t_of(logsnr)).x0
  return d_alpha * x0 + d_sigma / sigma * (x - alpha * x0)


def _error_norm(state) -> Array:
  """The larger of the scaled errors of x (root mean square) and of the integral."""
  x, divergence = state
  return jnp.maximum(jnp.sqrt(jnp.mean(x**2)), jnp.abs(divergence))


def _data(images: Data, levels: int) -> tuple[Batch, bool]:
  """x0 in [-1, 1] and whether it stands for discrete pixels, which are moved to the nearest level."""
  images = jnp.asarray(images)
  if images.dtype == jnp.uint8:
    x0 = images.astype(float) / 127.5 - 1
    return (x0 if levels == 256 else values(ranks(x0, levels), levels).astype(x0.dtype)), True
  return images, False


def _ends(schedule: Schedule, dtype, logsnr_max: float) -> tuple[Times, Times]:
  """The log-SNRs where a likelihood starts and at t = 1, cut to the limit."""
  start, end = schedule.logsnr(jnp.asarray([schedule.t_min, 1], dtype))
  return jnp.minimum(start, logsnr_max), jnp.maximum(end, -LIMIT)


def _vlb(prior: PerExample, diffusion: PerExample, decoder: PerExample, nfe: int) -> Vlb:
  """Terms in nats per dimension as bits per dimension, with their sum."""
  prior, diffusion, decoder = (term / jnp.log(2.0) for term in (prior, diffusion, decoder))
  return Vlb(prior + diffusion + decoder, prior, diffusion, decoder, nfe)


LIKELIHOODS: dict[str, Callable[..., Vlb | Likelihood]] = checked(
  {
    "discrete_vlb": discrete_vlb,
    "continuous_vlb": continuous_vlb,
    "ode": ode_likelihood,
  }
)
