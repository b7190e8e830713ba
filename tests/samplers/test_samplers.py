"""The contract of every sampler, and the deterministic ones against the exact flow of Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_of import OneOf

from diffjax import keys
from diffjax.denoisers import gaussian_denoiser, mixture_denoiser
from diffjax.samplers import SAMPLERS, base, exponential, grids, unipc
from diffjax.scales import SCALES
from diffjax.schedules import SCHEDULES

MEAN, VAR = 0.7, 0.25
DETERMINISTIC = [name for name in SAMPLERS if SAMPLERS[name]().deterministic]
FITTED = [name for name in DETERMINISTIC if SAMPLERS[name]().order]
NOISY_BY_DESIGN = [
  name for name in SAMPLERS if not (SAMPLERS[name]().deterministic or SAMPLERS[name]().order)
]
INTERIOR = 4.0  # log-SNRs from -4 to 4
WITHIN = {"unipc_3": 1.0}  # whose first step, of lower order than the others, hardly shows at -4
STARTS = np.array([[-1.0], [0.2], [1.5]])


def stream(count, key=0):
  return keys.of_examples(keys.seed(key), jnp.arange(count))


def exact_flow(schedule, x, t, s):
  """The probability-flow solution on N(MEAN, VAR): standardised x is constant."""
  (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
  ratio = jnp.sqrt((alpha_s**2 * VAR + sigma_s**2) / (alpha_t**2 * VAR + sigma_t**2))
  return alpha_s * MEAN + ratio * (x - alpha_t * MEAN)


def walker(schedule, sampler, denoiser=None):
  """(carry, grid, stop) -> x, compiled once for grids of one length."""
  denoiser = denoiser or gaussian_denoiser(schedule, MEAN, VAR)
  return jax.jit(
    lambda carry, grid, stop: base.walk(denoiser, schedule, sampler, carry, grid, 0, stop, stream(3)).x
  )


def fitted_order(counts, errors):
  return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def interior_grid(schedule, count, size, within=INTERIOR):
  grid = schedule.t_of(jnp.linspace(-within, within, count + 1))
  return jnp.pad(grid, (0, size - count - 1), mode="edge")


@pytest.mark.parametrize("name", FITTED)
def test_fitted_order_of_deterministic_samplers(name):
  counts = [256, 512, 1024, 2048]
  with jax.enable_x64(True):
    schedule, sampler = SCHEDULES["continuous_cosine"](), SAMPLERS[name]()
    run, x = walker(schedule, sampler), jnp.asarray(STARTS)
    errors = []
    for count in counts:
      grid = interior_grid(schedule, count, 2049, WITHIN.get(name, INTERIOR))
      exact = exact_flow(schedule, x, grid[0], grid[-1])
      errors.append(jnp.abs(run(sampler.start(x), grid, count) - exact).max())
  order = fitted_order(counts, np.array(errors))
  assert abs(order - sampler.order) < 0.3, order


@pytest.mark.parametrize("name, order", [("dpmpp_3m", 3), ("unipc_3", 4)])
def test_the_order_is_higher_once_there_is_a_past(name, order):
  counts = [32, 64, 128, 256]
  with jax.enable_x64(True):
    schedule, sampler, x = SCHEDULES["continuous_cosine"](), SAMPLERS[name](), jnp.asarray(STARTS)
    denoiser, run, errors = gaussian_denoiser(schedule, MEAN, VAR), walker(schedule, sampler), []
    for count in counts:
      grid = interior_grid(schedule, count, 257)
      h, before, past = 2 * INTERIOR / count, [], []
      for back in (1, 2, 3):
        u = schedule.t_of(-INTERIOR - back * h)
        before.append((exact_flow(schedule, x, grid[0], u), jnp.full(x.shape[:1], u)))
        at = jnp.full(x.shape[:1], (-INTERIOR - back * h) / 2)
        past.append(exponential.Past(denoiser(before[-1][0], u).x0, at))
      memory = unipc.Memory(*before[0], tuple(past)) if name == "unipc_3" else tuple(past[:2])
      exact = exact_flow(schedule, x, grid[0], grid[-1])
      errors.append(jnp.abs(run(base.Carry(x, memory), grid, count) - exact).max())
  assert abs(fitted_order(counts, np.array(errors)) - order) < 0.3


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_scale_rules_agree_on_the_same_log_snrs(name):
  options = {"rtol": 1e-11, "atol": 1e-11} if name == "adaptive_ode" else {}
  means = jnp.asarray([[-1.0, 0.5], [1.0, -0.5]])
  x = jnp.asarray([[-1.0, 0.3], [0.2, 1.0], [1.5, -2.0]])
  with jax.enable_x64(True):
    schedules = tuple(SCHEDULES["continuous_cosine"](scale=scale) for scale in SCALES)
    sampler = SAMPLERS[name](**options)

    @jax.jit
    def run(index):
      schedule = OneOf(schedules, index)
      denoiser = mixture_denoiser(schedule, means, jnp.asarray([0.1, 0.2]), jnp.asarray([0.3, 0.7]))
      grid = schedule.t_of(jnp.linspace(-6.0, 6.0, 9))
      start, end = schedule.alpha_sigma(grid[0])[0], schedule.alpha_sigma(grid[-1])[0]
      carry = sampler.start(start * 20 * x.astype(float))
      return base.walk(denoiser, schedule, sampler, carry, grid, 0, 8, stream(3)).x / end

    results = [run(jnp.asarray(index)) for index in range(len(schedules))]
  assert {"vp", "ve", "fm"} <= set(SCALES) and not np.allclose(results[0], 20 * x, atol=1)
  for other in results[1:]:
    np.testing.assert_allclose(other, results[0], rtol=1e-9, atol=1e-9)


def step(sampler, schedule, x, t, s, denoiser=None):
  denoiser = denoiser or gaussian_denoiser(schedule, MEAN, VAR)
  run = jax.jit(lambda x, t, s: sampler.step(denoiser, schedule, sampler.start(x), t, s, stream(len(x))))
  return run(x, jnp.asarray(t, x.dtype), jnp.asarray(s, x.dtype))


def counted(denoiser, calls):
  """A denoiser that notes its calls as they run, in loops too."""

  def run(xt, t):
    jax.debug.callback(lambda: calls.append(1))
    return denoiser(xt, t)

  return run


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_to_the_same_time_and_steps_from_where_no_signal_is_left(name):
  """The first is the identity, or adds noise by design; on flow alpha(1) = 0: a first-order step.

  A step evaluates the denoiser as often as is said; the adaptive solver cannot say.
  """
  schedule, sampler, calls = SCHEDULES["flow"](), SAMPLERS[name](), []
  denoiser, x = counted(gaussian_denoiser(schedule, MEAN, VAR), calls), keys.normal(stream(512, 1), (4,))
  one = jax.jit(lambda carry, t, s: sampler.step(denoiser, schedule, carry, t, s, stream(512)))
  step = lambda carry, t, s: one(carry, jnp.asarray(t), jnp.asarray(s))

  same = step(sampler.start(x), 0.4, 0.4).x.block_until_ready()
  jax.effects_barrier()
  assert sampler.evaluations in (None, len(calls)) and (sampler.evaluations is None) == (
    name == "adaptive_ode"
  )
  if name in NOISY_BY_DESIGN:
    assert np.all(np.isfinite(same)) and np.abs(same - x).max(1).min() > 1e-3
  else:
    np.testing.assert_allclose(same, x, rtol=1e-5, atol=1e-5)
  if sampler.deterministic:
    np.testing.assert_allclose(step(sampler.start(x), 1.0, 1.0).x, x, rtol=1e-5, atol=1e-5)

  carry = step(sampler.start(x), 1.0, 0.95)
  if sampler.deterministic and name != "adaptive_ode":
    np.testing.assert_allclose(carry.x, 0.05 * MEAN + 0.95 * x, rtol=1e-5, atol=1e-5)
  elif name != "annealed_langevin":
    std = np.sqrt(0.05**2 * VAR + 0.95**2)
    assert abs(np.mean(carry.x) - 0.05 * MEAN) < 0.1 and abs(np.std(carry.x) - std) < 0.1
  assert np.all(np.isfinite(step(carry, 0.95, 0.9).x))


def test_euler_and_dpm_solver_1_are_ddim():
  schedule, x = SCHEDULES["linear"](), keys.normal(stream(4, 1), (3,))
  one, two, three = (step(SAMPLERS[n](), schedule, x, 0.5, 0.3).x for n in ("ddim", "euler", "dpm_solver_1"))
  np.testing.assert_allclose(one, two, rtol=1e-6)
  np.testing.assert_allclose(one, three, rtol=1e-6)


def test_what_adds_noise_by_design():
  assert set(NOISY_BY_DESIGN) == {"predictor_corrector", "annealed_langevin"}
  assert not SAMPLERS["heun"](churn=0.1).deterministic and SAMPLERS["euler"](churn=0.1).order is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_whole_draw(name):
  """A plain loop of steps and D(x, t_min); independent of the batch; one compile for all step counts and keys."""
  schedule = SCHEDULES["linear"](20, beta_start=0.02, beta_end=0.4)  # so few rows that D(x, t_min) is not x
  sampler, shape = SAMPLERS[name](), (2, 3)
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)

  @jax.jit
  def run(grid, length, key, index):
    return base.sample(denoiser, schedule, sampler, grid, length, key, index, shape, final="denoise")

  def draw(steps, key, index):
    return run(*base.padded(grids.leading(schedule, steps)), keys.seed(key), jnp.asarray(index))

  whole, part = draw(10, 0, [0, 1, 2, 3, 5]), draw(10, 0, [5, 3, 9, 8, 0])
  assert np.all(np.isfinite(whole))
  np.testing.assert_allclose(part[jnp.array([1, 0, 4])], whole[jnp.array([3, 4, 0])], rtol=1e-5, atol=1e-5)
  assert not np.allclose(whole[3], whole[4]) and not np.allclose(draw(5, 1, [0, 1, 2, 3, 5]), whole)
  assert run._cache_size() == 1

  sample_keys = keys.of_examples(keys.seed(0), jnp.array([0, 1, 2, 3, 5]))
  step_keys, grid = keys.purpose(sample_keys, "step"), jnp.asarray(grids.leading(schedule, 10))
  one = jax.jit(lambda carry, t, s, k: sampler.step(denoiser, schedule, carry, t, s, keys.fold(step_keys, k)))
  carry = sampler.start(base.prior(schedule, sample_keys, shape, grid[0]))
  for k in range(9):
    carry = one(carry, grid[k], grid[k + 1], k)
  expected = denoiser(carry.x, jnp.asarray(schedule.t_min, grid.dtype)).x0
  np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-4)
  assert np.abs(whole - carry.x).max() > 1e-2  # the last denoising shows
  np.testing.assert_array_equal(base.FINALS["none"].sample(denoiser, carry.x, grid[-1]), carry.x)


def test_eta_one_is_ancestral_sampling_with_the_small_variance():
  schedule, x = SCHEDULES["linear"](), keys.normal(stream(4, 1), (3,))
  one = step(SAMPLERS["ddim"](eta=1.0), schedule, x, 0.5, 0.3).x
  other = step(SAMPLERS["ancestral"](variance="fixed_small"), schedule, x, 0.5, 0.3).x
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m"])
def test_inversion_returns_to_the_noise(name):
  with jax.enable_x64(True):
    schedule, sampler, x = SCHEDULES["continuous_cosine"](), SAMPLERS[name](), jnp.asarray(STARTS)
    run, grid = walker(schedule, sampler), interior_grid(schedule, 1000, 1001)
    back = run(sampler.start(run(sampler.start(x), grid, 1000)), grid[::-1], 1000)
  np.testing.assert_allclose(back, x, atol=2e-2 if sampler.order == 1 else 1e-3)


def test_ddim_finds_the_modes_of_a_mixture():
  schedule = SCHEDULES["linear"]()
  means = jnp.asarray([[-1.0, 0.5], [1.0, -0.5]])
  weights = jnp.asarray([0.25, 0.75])
  denoiser = mixture_denoiser(schedule, means, jnp.asarray([0.01, 0.01]), weights)
  grid, length = base.padded(grids.leading(schedule, 200))
  x = base.sample(denoiser, schedule, SAMPLERS["ddim"](), grid, length, keys.seed(0), jnp.arange(4096), (2,))
  second = np.asarray(x[:, 0] > 0)
  np.testing.assert_allclose(second.mean(), 0.75, atol=4 * np.sqrt(0.75 * 0.25 / 4096) + 0.01)
  np.testing.assert_allclose(x[second].mean(0), means[1], atol=0.02)
  np.testing.assert_allclose(x[second].std(0), 0.1, atol=0.02)


def test_the_adaptive_error_follows_the_tolerance_and_conditions_stay_with_their_examples():
  with jax.enable_x64(True):
    schedule, x = SCHEDULES["flow"](), jnp.asarray(STARTS)
    t, s = (schedule.t_of(logsnr) for logsnr in (-12.0, 8.0))
    shift = jnp.asarray([[-1.0], [0.0], [1.0]])
    exact = exact_flow(schedule, x, t, s) + schedule.alpha_sigma(s)[0] * shift

    @jax.jit
    def solve(tolerance, shift):
      sampler = SAMPLERS["adaptive_ode"](rtol=tolerance, atol=tolerance)
      denoiser = gaussian_denoiser(schedule, MEAN + shift, VAR)
      start = x + schedule.alpha_sigma(t)[0] * shift
      return sampler.step(denoiser, schedule, base.Carry(start), t, s, stream(3)).x

    errors = [float(jnp.abs(solve(tolerance, shift) - exact).max()) for tolerance in (1e-4, 1e-7, 1e-10)]
  assert np.all(np.array(errors) < 10 * np.array([1e-4, 1e-7, 1e-10]))
  assert errors[0] > 100 * errors[1] > 1e4 * errors[2]


def test_the_adaptive_solver_gives_up_visibly():
  x = keys.normal(stream(4, 1), (3,))
  sampler = SAMPLERS["adaptive_ode"](max_steps=2, solver="bosh3")
  assert np.all(np.isnan(step(sampler, SCHEDULES["flow"](), x, 0.9, 0.1).x))


@pytest.mark.parametrize("name", SAMPLERS)
def test_everything_that_a_sampler_carries_is_cut_by_examples(name):
  schedule, sampler, x = SCHEDULES["continuous_cosine"](), SAMPLERS[name](), jnp.zeros((5, 3))
  sample_keys = keys.of_examples(keys.seed(0), jnp.arange(5))
  take = lambda carry: sampler.step(
    gaussian_denoiser(schedule, MEAN, VAR), schedule, carry, jnp.asarray(0.5), jnp.asarray(0.4), sample_keys
  )
  before = jax.eval_shape(sampler.start, x)
  after = jax.eval_shape(take, before)
  assert all(leaf.shape[:1] == (5,) for leaf in jax.tree.leaves((before, after)))
  shapes = lambda carry: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), carry)
  assert shapes(after) == shapes(before)


STARTING_BELOW_ONE = {
  "leading": {},
  "quadratic": {},
  "karras": {"sigma_max": 4.0},
  "align_your_steps": {"table": "sdxl"},
  "custom": {"sigmas": tuple(np.geomspace(3, 0.03, 10))},
}


@pytest.mark.parametrize("scale", ["ve", "fm"])
def test_a_grid_that_starts_below_one_draws_its_own_noise(scale):
  """Samples of N(0, VAR) have its deviation, up to the error of ten steps, at most 8 %."""
  schedule, sampler = SCHEDULES["geometric"](0.02, 100.0, steps=60, scale=scale), SAMPLERS["dpmpp_2m"]()
  denoiser, index = gaussian_denoiser(schedule, 0.0, VAR), jnp.arange(1024)
  run = jax.jit(
    lambda grid, length: base.sample(
      denoiser, schedule, sampler, grid, length, keys.seed(0), index, (8,)
    ).std()
  )
  for name, options in STARTING_BELOW_ONE.items():
    grid = grids.GRIDS[name](schedule, 10, **options)
    assert grid[0] < 1
    np.testing.assert_allclose(run(*base.padded(grid)), VAR**0.5, rtol=0.08, err_msg=name)


@pytest.mark.parametrize("name", NOISY_BY_DESIGN)
def test_every_correction_evaluates_the_denoiser(name):
  sampler, schedule, calls = SAMPLERS[name](corrections=3), SCHEDULES["continuous_cosine"](), []
  denoiser = counted(gaussian_denoiser(schedule, MEAN, VAR), calls)
  step(sampler, schedule, jnp.ones((2, 3)), 0.5, 0.4, denoiser).x.block_until_ready()
  jax.effects_barrier()
  assert len(calls) == sampler.evaluations == SAMPLERS[name](corrections=1).evaluations + 2


def test_a_first_step_of_heun_evaluates_the_denoiser_once_more():
  sampler, schedule, calls = SAMPLERS["plms"](begin="heun"), SCHEDULES["continuous_cosine"](), []
  denoiser = counted(gaussian_denoiser(schedule, MEAN, VAR), calls)
  step(sampler, schedule, jnp.ones((2, 3)), 0.5, 0.4, denoiser).x.block_until_ready()
  jax.effects_barrier()
  assert len(calls) == sampler.evaluations + sampler.first == 2 and SAMPLERS["plms"]().first == 0
