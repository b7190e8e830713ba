"""Guides: functions of denoisers that change where sampling goes; folded in the order that a config names them.

    clip                 the estimate in the range of the data               Ho et al. 2020, code
    threshold            each sample in its own range, scaled back           Saharia et al. 2022, section 2.3
    classifier_free      D_c + w (D_c - D_u)                                 Ho & Salimans 2022, eq. 6
    autoguidance         D + w (D - D_bad), D_bad a lesser model's           Karras et al. 2024a, eq. 3
    classifier           D + w sigma^2 / alpha grad log p(y | x_t)           Dhariwal & Nichol 2021, algorithm 2
    frames               some frames those that are given                    Ho et al. 2022 (video), "replacement"
    reconstruction       D - w alpha / 2 grad |y - A D|^2, y = A x0 seen     Ho et al. 2022 (video), eq. 7

A maker of GUIDES returns a Guide; what it may look at besides the denoiser is the Scene.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from diffjax.denoisers import Denoiser, Estimate, map_x0
from diffjax.gaussian import expand
from diffjax.ranges import Count, NotNegative, Run, Share, at_least, checked, closed, each_once, one_of
from diffjax.schedules import Schedule
from diffjax.types import Batch, ConfigError, Params, PerExample, Times

FAR = 1e9  # sigma / alpha
Weight = Annotated[float, closed(-1, 1000)]  # of guidance; -1 is the model without it
Frames = tuple[Annotated[int, each_once(at_least(0))], ...]  # numbers of a video's
Cond = Any  # a pytree [B, ...]


class Scene(NamedTuple):
  """What a guide may look at.

  Attributes:
    schedule: the schedule.
    conditional: conditions -> the network's Denoiser.
    cond: the conditions of this batch.
    null: the null of each; None where one is never left out.
    frozen: the parameters of other runs, by their place.
    data: what this batch asked for, by field.
    encode: fields -> x0, as the space does it.
  """

  schedule: Schedule
  conditional: Callable[[Cond], Denoiser]
  cond: Cond
  null: Cond | None
  frozen: Mapping[str, Params]
  data: Mapping[str, Array]
  encode: Callable[[Mapping[str, Array]], Batch]


@dataclasses.dataclass(frozen=True)
class Guide:
  """A change of a denoiser.

  Attributes:
    apply: (denoiser, scene) -> denoiser.
    first: whether it begins from the network itself, so that no guide stands before it.
    needs_null: whether every condition must have a null that was trained.
    needs_bounds: whether it speaks of a range of the data.
    likelihood: whether it belongs to the model whose likelihood is measured.
    request: (numbers [n] of the samples, the training data or None) -> fields that samples ask for because of it.
  """

  apply: Callable[[Denoiser, Scene], Denoiser]
  first: bool = False
  needs_null: bool = False
  needs_bounds: bool = False
  likelihood: bool = False
  request: Callable[..., dict] = lambda index, source: {}


def clipped(denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
  """Clips the estimated data to the range of the pixels (Ho et al. 2020's sampler)."""
  return map_x0(denoiser, lambda x0: jnp.clip(x0, low, high))


def guidance_interval(
  schedule: Schedule, w: ArrayLike, sigma_min: float = 0.0, sigma_max: float = float("inf")
) -> Callable[[Times], Times]:
  """A guidance weight that is w where sigma / alpha is in (sigma_min, sigma_max] and 0 elsewhere.

  Kynkaanniemi et al. 2024, eq. 3: for ImageNet-512, w + 1 = 2 (theirs) in (0.28, 2.9]. Where no signal is left
  (alpha = 0) the ratio counts as FAR, so that a sigma_max of FAR or more has no end.
  """

  def weight(t):
    r = jnp.minimum(jnp.exp(-schedule.logsnr(t) / 2), FAR)
    return jnp.where((r > sigma_min) & (r <= sigma_max), w, 0)

  return weight


def classifier_free(
  conditional: Callable[[Cond], Denoiser],
  cond: Cond,
  null: Cond,
  w: ArrayLike | Callable[[Times], Times],
  rescale: float = 0.0,
) -> Denoiser:
  """Classifier-free guidance, D_c + w (D_c - D_u) (Ho & Salimans 2022, eq. 6), in one doubled batch.

  Args:
    conditional: conditions -> Denoiser.
    cond: the conditions, a pytree [B, ...].
    null: the null of each, of cond's shapes.
    w: guidance weight, or a function of t that gives one; 0 is the conditional model, and diffusers'
      guidance_scale is w + 1.
    rescale: share phi of the guided estimate that is scaled to D_c's standard deviation, example by example
      (Lin et al. 2024, eq. 15 and 16, here on x0); an estimate without any contrast stays as it is.
  """
  if isinstance(w, int | float) and w == 0:
    return conditional(cond)
  both = conditional(jax.tree.map(lambda *pair: jnp.concatenate(pair), cond, null))

  def denoise(xt, t):
    t = jnp.broadcast_to(t, xt.shape[:1])
    estimate = both(jnp.concatenate([xt, xt]), jnp.concatenate([t, t]))
    with_cond, without = jnp.split(estimate.x0, 2)
    var_frac = estimate.var_frac
    if var_frac is not None:
      var_frac = jnp.split(var_frac, 2)[0]
    weight = expand(w(t) if callable(w) else w, xt)
    guided = with_cond + weight * (with_cond - without)
    if rescale:
      guided *= expand(1 + rescale * (_contrast(with_cond, guided) - 1), xt)
    return Estimate(guided, var_frac)

  return denoise


def _contrast(x: Batch, other: Batch) -> PerExample:
  """How many times the standard deviation of `other` that of x is; 1 where `other` is constant to rounding."""
  axes = tuple(range(1, x.ndim))
  of_x, of_other = jnp.std(x, axis=axes), jnp.std(other, axis=axes)
  varies = of_other > 1e-6 * jnp.max(jnp.abs(other), axis=axes)
  return jnp.where(varies, of_x / jnp.where(varies, of_other, 1), 1)


def classifier_guided(
  denoiser: Denoiser,
  schedule: Schedule,
  log_prob: Callable[[Batch, Times], Float[Array, "b"]],
  w: ArrayLike | Callable[[Times], Times] = 1.0,
) -> Denoiser:
  """Guidance by the gradient of a classifier of noisy data (Dhariwal & Nichol 2021, algorithm 2):

      score + w grad log p(y | x_t),   that is   D + w sigma^2 / alpha grad log p(y | x_t)            (1)

  Where alpha = 0 nothing is known about y, and the estimate is left as it is.

  Args:
    denoiser: the denoiser to guide.
    schedule: its schedule.
    log_prob: (x_t [B, ...], t [B]) -> log p(y | x_t) of each example's label, [B]; examples do not couple.
    w: the scale, 1 for the exact conditional score; or a function of t.
  """

  def denoise(xt, t):
    estimate = denoiser(xt, t)
    t = jnp.broadcast_to(t, xt.shape[:1])
    slope = jax.grad(lambda x: jnp.sum(log_prob(x, t)))(xt)
    alpha, sigma = schedule.alpha_sigma(t)
    gain = jnp.where(alpha > 0, sigma**2 / jnp.where(alpha > 0, alpha, 1), 0) * (w(t) if callable(w) else w)
    return estimate._replace(x0=estimate.x0 + expand(gain, xt) * slope)

  return denoise


def thresholded(denoiser: Denoiser, percentile: float, low: float = 1.0) -> Denoiser:
  """Each estimate clipped to its own percentile s of |x0|, if that is above `low`, and divided by s (Imagen)."""

  def change(x0):
    s = jnp.quantile(jnp.abs(x0.reshape(len(x0), -1)), percentile, axis=1)
    s = expand(jnp.maximum(s, low), x0)
    return low * jnp.clip(x0, -s, s) / s

  return map_x0(denoiser, change)


def clip() -> Guide:
  """The estimated data clipped to [-1, 1]."""
  return Guide(lambda denoiser, scene: clipped(denoiser), needs_bounds=True, likelihood=True)


def threshold(percentile: Share = 0.995) -> Guide:
  """Dynamic thresholding at this quantile of a sample's absolute values."""
  return Guide(lambda denoiser, scene: thresholded(denoiser, percentile), needs_bounds=True)


def classifier_free_guide(
  w: Weight = 0.0, sigma_min: NotNegative = 0.0, sigma_max: NotNegative = FAR, rescale: Share = 0.0
) -> Guide:
  """Classifier-free guidance of weight w where sigma / alpha lies in (sigma_min, sigma_max]; see `classifier_free`."""
  if not sigma_min < sigma_max:
    raise ConfigError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}; the first must be the smaller.")

  def apply(denoiser, scene):
    if not w:
      return denoiser
    weight = guidance_interval(scene.schedule, w, sigma_min, sigma_max)
    return classifier_free(scene.conditional, scene.cond, scene.null, weight, rescale)

  return Guide(apply, first=True, needs_null=bool(w))


def autoguidance(run: Run("denoise") = "", w: Weight = 1.0) -> Guide:
  """The difference to a lesser model of the same data, a run, w times more (0 is none)."""

  def apply(denoiser, scene):
    lesser = run.can["denoise"](scene.frozen[run.place], scene.cond)

    def denoise(xt, t):
      estimate = denoiser(xt, t)
      return estimate._replace(x0=estimate.x0 + w * (estimate.x0 - lesser(xt, t, scene.schedule).x0))

    return denoise

  return Guide(apply)


def classifier(run: Run("log_prob") = "", w: Weight = 1.0) -> Guide:
  """Guidance by a classifier of noisy data, a run of the task "classifier"; see `classifier_guided`.

  The samples ask for classes as the classifier's own request says, so that the model itself may know of none.
  """

  def apply(denoiser, scene):
    log_prob = run.can["log_prob"](scene.frozen[run.place], scene.data)
    return classifier_guided(denoiser, scene.schedule, lambda x, t: log_prob(x, t, scene.schedule), w)

  return Guide(apply, request=functools.partial(run.can["request"], run.params))


def averaged(x0: Batch, size: int) -> Array:
  """Means of size x size pixels; [B, ..., H, W, C] -> [B, ..., H / size, W / size, C]."""
  *front, height, width, channels = x0.shape
  if height % size or width % size:
    raise ConfigError(f"size is {size}, which does not divide {height} x {width} pixels.")
  blocks = x0.reshape(*front, height // size, size, width // size, size, channels)
  return blocks.mean((-4, -2))


def around(x0: Batch, size: int) -> Batch:
  """All but a square in the middle, of which each side is 1 / size of the picture's; there are zeros."""
  height, width = x0.shape[-3:-1]
  inside = lambda n: (
    (np.arange(n) >= n // 2 - n // size // 2) & (np.arange(n) < n // 2 + -(-(n // size) // 2))
  )
  return x0 * ~(inside(height)[:, None] & inside(width))[..., None]


def require_frames(shape: tuple[int, ...], given: tuple[int, ...]) -> None:
  """Raises ConfigError unless examples of this shape are videos that have these frames and others."""
  if len(shape) != 4 or len(given) >= shape[0] or max(given, default=0) >= shape[0]:
    raise ConfigError(f"given is {given}, and the data are of shape {shape}; it needs videos of more frames.")


def chosen(x0: Batch, given: tuple[int, ...]) -> Array:
  """These frames of videos [B, T, H, W, C]."""
  require_frames(x0.shape[1:], given)
  return x0[:, np.asarray(given, int)]


OPERATORS: dict[str, Callable[[Batch, int, tuple[int, ...]], Array]] = {
  "average": lambda x0, size, given: averaged(x0, size),
  "hole": lambda x0, size, given: around(x0, size),
  "frames": lambda x0, size, given: chosen(x0, given),
}


def require_rows(fields: Mapping[str, Any] | None, field: str) -> None:
  """Raises ConfigError where the data are known and do not have the field of which samples ask for rows."""
  if fields is not None and field not in fields:
    raise ConfigError(f"field is {field!r}, which the data do not have; theirs are {', '.join(fields)}.")


def given_frames(
  given: Frames = (0,), field: str = "video", fields: Mapping[str, Any] | None = None
) -> Guide:
  """The estimates of some frames replaced by those that samples ask for, which the samples then have.

  With a condition "frames" of the same frames the network knows them too; without it this is sampling by replacement,
  whose other frames know of them by the noisy frames alone.

  Args:
    given: numbers of the frames: the first ones, and a clip goes on; every other one, and it is filled in; () for none.
    field: of the data, whose rows are asked for.
    fields: of the data, where they are known.

  Raises:
    ConfigError: no such field, or videos of no more frames.
  """
  require_rows(fields, field)
  if fields and given:
    require_frames(fields[field].shape, given)

  def request(index, source):
    if source is None:
      raise ConfigError("field names rows of the training data, which are not at hand.")
    return source.read(index % len(source), (field,))

  def apply(denoiser, scene):
    if not given:
      return denoiser
    video, at = scene.encode({field: scene.data[field]}), np.asarray(given)
    return map_x0(denoiser, lambda x0: x0.at[:, at].set(video[:, at].astype(x0.dtype)))

  return Guide(apply, request=request)


def reconstruction(
  operator: Annotated[str, one_of(OPERATORS)] = "average",
  size: Count = 2,
  given: Frames = (0,),
  w: NotNegative = 1.0,
  noise: NotNegative = 0.0,
  field: str = "image",
  fields: Mapping[str, Any] | None = None,
) -> Guide:
  """Towards data of which y = A x0 + noise was seen: a classifier of equation

      log p(y | x_t) = -|y - A D(x_t, t)|^2 / (2 (r^2 + noise^2)),   r^2 = sigma^2 / (w alpha^2)            (2)

  Without noise it is reconstruction guidance (Ho et al. 2022, Video Diffusion Models, eq. 7), in which the gradient
  passes through the denoiser. Samples ask for rows of the data's `field`, and see A of them: super-resolution and
  inpainting with a model that was trained for neither.

  Args:
    operator: A, of OPERATORS: "average" of blocks of size x size pixels, all but a "hole" in the middle, or some
      "frames" of a video.
    size: of a block; or how many times the hole's side fits into the picture's.
    given: numbers of the frames.
    w: the weight; 0 for none.
    noise: the standard deviation of the noise in y, in x0's units.
    field: of the data.
    fields: of the data, where they are known.

  Raises:
    ConfigError: no such field, or one that the operator cannot see.
  """
  see = functools.partial(OPERATORS[operator], size=size, given=given)
  require_rows(fields, field)
  if fields:
    jax.eval_shape(see, jax.ShapeDtypeStruct((1, *fields[field].shape), jnp.float32))

  def request(index, source):
    if source is None:
      raise ConfigError("field names rows of the training data, which are not at hand.")
    return {"observed": source.read(index % len(source), (field,))[field]}

  def apply(denoiser, scene):
    if not w:
      return denoiser
    y = see(scene.encode({field: scene.data["observed"]}))

    def log_prob(xt, t):
      alpha, sigma = scene.schedule.alpha_sigma(t)
      gap = (y - see(denoiser(xt, t).x0)).reshape(len(xt), -1)
      return -w * alpha**2 / (2 * (sigma**2 + w * (alpha * noise) ** 2)) * jnp.sum(gap**2, -1)

    return classifier_guided(denoiser, scene.schedule, log_prob)

  return Guide(apply, request=request)


GUIDES: dict[str, Callable[..., Guide]] = checked(
  {
    "clip": clip,
    "threshold": threshold,
    "classifier_free": classifier_free_guide,
    "autoguidance": autoguidance,
    "classifier": classifier,
    "frames": given_frames,
    "reconstruction": reconstruction,
  }
)


def folded(guides: tuple[Guide, ...], denoiser: Denoiser, scene: Scene) -> Denoiser:
  """The denoiser under all guides, the first applied first."""
  for guide in guides:
    denoiser = guide.apply(denoiser, scene)
  return denoiser
