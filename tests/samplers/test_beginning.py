"""What sampling visits first is noise and was trained, for every schedule; what is not is refused or said."""

import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import Field
from diffjax.predictions import ROWS
from diffjax.samplers import SAMPLERS, beginning
from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError, Unsuitable
from diffjax.weights import WEIGHTS


def warnings(schedule, grid="uniform", steps=10, weight="simple", sampler="ddim", row="v", **options):
  grid = GRIDS[grid](schedule, steps, **options)
  return beginning.check(schedule, SAMPLERS[sampler](), grid, WEIGHTS[weight](), ROWS[row], 1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_in_noise_and_with_every_weight_it_is_trained_or_said(name):
  schedule = SCHEDULES[name]()
  for weight in WEIGHTS:
    none = schedule.ends_without_signal and weight not in ("simple", "edm")
    assert bool(warnings(schedule, weight=weight)) == none, weight


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_row_without_weight_is_refused(weight):
  """SNR is 0 in the last row: min(SNR, gamma), SNR gamma / (SNR + gamma) and SNR / (k + SNR)^gamma are 0 there."""
  schedule = SCHEDULES["scaled_linear"](zero_terminal=True)
  if weight in ("snr", "min_snr", "soft_min_snr", "p2"):
    with pytest.raises(Unsuitable, match="^weight is one which is 0 at t = 1, where sampling starts"):
      warnings(schedule, weight=weight)
    assert not warnings(schedule, "leading", weight=weight)  # which does not visit it
  else:
    assert not warnings(schedule, weight=weight)


def test_a_start_that_is_no_noise_is_refused_and_a_little_signal_is_said():
  betas = np.linspace(1e-4, 0.02, 100)
  alpha, sigma = np.sqrt(np.prod(1 - betas)), np.sqrt(1 - np.prod(1 - betas))
  with pytest.raises(
    Unsuitable, match=f"^schedule is one with which x_t is {alpha:.3g} x0 \\+ {sigma:.3g} eps at t = 1"
  ):
    warnings(SCHEDULES["linear"](steps=100))
  with pytest.raises(Unsuitable, match="^grid is one with which .* at t = 0.3"):
    warnings(SCHEDULES["linear"](), "custom", 2, times=(0.3, 0.1))
  (text,) = warnings(SCHEDULES["edm"](), "karras", sigma_max=4.0)
  assert "x_t is 1 x0 + 4 eps at t = " in text and "is drawn as 4 eps" in text
  (text,) = warnings(SCHEDULES["geometric"](sigma_max=1.0), sampler="annealed_langevin")  # NCSN's own
  assert "x_t is 1 x0 + 1 eps at t = 1" in text


@pytest.mark.parametrize(
  "changes, start",
  [
    (
      {"schedule.linear.steps": 100, "sample.steps": 10},
      "config.schedule.name is 'linear', with which x_t is 0.65",
    ),
    (
      {"sample.grid": "custom", "sample.custom.times": (0.3, 0.1), "sample.steps": 2},
      "config.sample.grid is 'custom', with which x_t is 0.6",
    ),
    (
      {"schedule.linear.zero_terminal": True, "objective.predict": "v", "objective.weight": "min_snr"},
      "config.objective.weight is 'min_snr', which is 0 at t = 1",
    ),
  ],
)
def test_the_error_names_the_field(changes, start):
  config = configs.base()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ConfigError, match=f"^{start}"):
    experiment.create(config, {"image": Field((8, 8, 1), "uint8")})
