"""Published diffusion models, Stable Diffusion and DDPM as diffusers saves them, as workdirs with weights alone.

    python -c "from diffjax.jobs import imported; imported.stable_diffusion('FOLDER', 'runs/sd')"
    python main.py --workdir=runs/sd --mode=sample --config.condition.text.request="a red heart|a cat" \
      --config.sample.count=2

FOLDER holds the folders unet, vae, text_encoder, tokenizer and scheduler. Autoencoder and text encoder stay where they
are and are used in place (interop/folders.py). The workdir can be sampled from and others can begin with its weights
(config.train.start); it cannot be trained further itself, as it has no optimizer's state.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffjax import experiment, keys
from diffjax.config import base, resolved, settled
from diffjax.data.source import ArraySource, fingerprint
from diffjax.interop import configs as networks
from diffjax.interop import folders
from diffjax.interop.names import NAMES
from diffjax.interop.params import to_params
from diffjax.jobs import trained, workdir
from diffjax.machine import parallel
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.state import TrainState
from diffjax.models.unet import UNet
from diffjax.types import ConfigError

PARTS = ("unet", "vae", "text_encoder", "scheduler")
SAMPLER_OF = {"DDIMScheduler": "ddim", "PNDMScheduler": "plms"}
SCHEDULE_OF = {"scaled_linear": "scaled_linear", "linear": "linear"}
VARIANCE_OF = {"fixed_small": "fixed_small", "fixed_large": "fixed_large"}
PREDICTION_OF = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def stable_diffusion(folder: str | os.PathLike, place: str | os.PathLike) -> Path:
  """Makes a workdir of a Stable Diffusion folder; returns it.

  Args:
    folder: as diffusers saves it; the workdir names it, so it must stay there.
    place: of the workdir, which must not hold a run.

  Raises:
    ConfigError: the folder holds something else, or the workdir a run.
  """
  folder = Path(folder)
  if missing := [part for part in PARTS if not (folder / part).is_dir()]:
    raise ConfigError(f"{folder} is no Stable Diffusion: it has no folder {', '.join(missing)}.")
  return _workdir(Path(place), config_of(folder), no_data(folder), folder / "unet", "unet_condition")


def ddpm(folder: str | os.PathLike, place: str | os.PathLike) -> Path:
  """The same of a DDPM on pixels (diffusers' UNet2DModel, DDPMScheduler), in one folder or in unet and scheduler."""
  folder = Path(folder)
  unet, schedule = (part if part.is_dir() else folder for part in (folder / "unet", folder / "scheduler"))
  fields = folders.read_json(unet / "config.json")
  plan = folders.read_json(schedule / "scheduler_config.json")
  c = _denoising(networks.unet(fields), plan)
  c.sample.sampler = _entry({"DDPMScheduler": "ancestral"}, plan, "_class_name", "DDPMScheduler")
  c.sample.steps = c.schedule[c.schedule.name].steps
  c.sample.ancestral.variance = _entry(VARIANCE_OF, plan, "variance_type", "fixed_small")
  c.sample.guides = ("clip",) if plan.get("clip_sample", True) else ()
  side = fields["sample_size"]
  image = np.zeros((0, side, side, fields.get("in_channels", 3)), np.uint8)
  return _workdir(Path(place), c, ArraySource({"image": image}, fingerprint(folder.name)), unet, "unet")


def _workdir(place: Path, config: ConfigDict, source: ArraySource, unet: Path, names: str) -> Path:
  if workdir.has_run(place) or workdir.has_checkpoints(place):
    raise ConfigError(f"{place} holds a run; name another workdir.")
  find = functools.partial(trained.trained, devices=parallel.create())
  parts = experiment.create(settled(config), source.fields, find)
  about = workdir.about(resolved(config))
  shapes = jax.eval_shape(parts.task.init, keys.seed(0))["model"]
  model = to_params(folders.tensors(unet), shapes, NAMES[names], str(unet))
  state = TrainState(jnp.zeros((), jnp.int32), {"model": model}, {}, (), keys.seed(0))
  workdir.save(place, about, source, parts.uses)
  with Checkpoints(place / "checkpoints") as checkpoints:
    checkpoints.save(state, about)
  return place


def _denoising(net: UNet, plan: Mapping[str, Any]) -> ConfigDict:
  """A config of this network and of the scheduler's schedule and prediction, with its weights as they are."""
  c = base()
  c.model.name = "unet"
  folders.set_fields(c.model.unet, net)
  c.schedule.name = _entry(SCHEDULE_OF, plan, "beta_schedule", "linear")
  options = c.schedule[c.schedule.name]
  options.steps = plan.get("num_train_timesteps", 1000)
  options.beta_start, options.beta_end = plan.get("beta_start", 1e-4), plan.get("beta_end", 0.02)
  c.objective.predict = _entry(PREDICTION_OF, plan, "prediction_type", "epsilon")
  c.train.averages = ()
  c.sample.weights = "raw"
  return c


def config_of(folder: Path) -> ConfigDict:
  """The config of the run that a folder would be."""
  net = networks.unet(folders.read_json(folder / "unet" / "config.json"))
  plan = folders.read_json(folder / "scheduler" / "scheduler_config.json")
  c = _denoising(net, plan)
  c.data.source = "captions"
  c.space.name = "latent"
  c.space.latent.run = str(folder / "vae")
  c.condition.names = ("text",)
  c.condition.text.run = str(folder / "text_encoder")
  c.condition.text.plain = True
  c.condition.text.edge = False
  c.condition.text.dropout = 0.1  # as it was trained
  c.sample.sampler = _entry(SAMPLER_OF, plan, "_class_name", None)
  c.sample.steps = 50
  c.sample.grid = "leading"
  c.sample.leading.offset = plan.get("steps_offset", 0)
  if c.sample.sampler == "plms":
    _entry({True: "heun"}, plan, "skip_prk_steps", False)
    c.sample.plms.begin = "heun"
  if not plan.get("set_alpha_to_one", c.sample.sampler != "plms"):
    c.sample.leading.then_row_0, c.sample.final = bool(c.sample.leading.offset), "none"
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 6.5  # their guidance_scale of 7.5
  return c


def no_data(folder: Path) -> ArraySource:
  """Images and texts of the sizes that a folder was made for, none of them."""
  unet, vae, read = (folders.read_json(folder / part / "config.json") for part in PARTS[:3])
  side = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
  tokenizer = folders.tokenizer_of(folder / "text_encoder", networks.clip_text(read).length)
  image = np.zeros((0, side, side, vae.get("out_channels", 3)), np.uint8)
  arrays = {"image": image, "text": np.zeros((0, tokenizer.length), np.int32)}
  return ArraySource(arrays, fingerprint(str(folder.name)), tokenizers={"text": tokenizer})


def _entry(entries: Mapping[Any, str], plan: Mapping[str, Any], name: str, default: Any) -> str:
  if (value := plan.get(name, default)) not in entries:
    raise ConfigError(
      f"the scheduler's {name} is {value!r}; it must be one of {', '.join(map(str, entries))}."
    )
  return entries[value]
