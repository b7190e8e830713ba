"""A whole Stable Diffusion folder, as diffusers saved it, against diffusers' own latents and images; DDPM's."""

import json
import shutil

import jax
import numpy as np
import pytest
from fixtures import published
from jax.sharding import Mesh

from diffjax import experiment, keys
from diffjax.data import text
from diffjax.interop import folders
from diffjax.jobs import imported, runs, sampling, trained, workdir
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
from diffjax.samplers import SAMPLERS
from diffjax.types import ConfigError

FOLDER = published.ROOT / "stable_diffusion"
IO = published.arrays("stable_diffusion")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
  """The workdir, on one device."""
  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    yield imported.stable_diffusion(FOLDER, tmp_path_factory.mktemp("sd") / "run")


def loaded(place):
  """The run with 5 steps."""
  config = workdir.load(place)
  config.sample.update(steps=5, batch_size=2)
  config.condition.text.request = "|".join(IO["prompts"])
  run = runs.start(config, place, "sample")
  (checkpoint,) = sampling.loaded(run, "latest", "")
  return checkpoint


def of_scheduler(place, scheduler, tmp_path):
  """The workdir of the folder with another scheduler."""
  if scheduler == "ddim":
    return place
  folder = shutil.copytree(FOLDER, tmp_path / "sd")
  path = folder / "scheduler" / "scheduler_config.json"
  other = {"_class_name": "PNDMScheduler", "skip_prk_steps": True}
  path.write_text(json.dumps(json.loads(path.read_text()) | other))
  return imported.stable_diffusion(folder, tmp_path / "run")


@pytest.mark.parametrize(
  "scheduler, sampler, name, calls",
  [("ddim", "ddim", "", 5), ("pndm", "plms", "_pndm", 6)],
  ids=["ddim", "pndm"],
)
def test_five_steps_at_guidance_7_5_are_diffusers(place, scheduler, sampler, name, calls, tmp_path):
  """PNDM's first step takes two calls, after the first of which it is where DDIM is; it also magnifies rounding."""
  close = 1e-4 if scheduler == "ddim" else 3e-4
  steps = np.moveaxis(IO[f"steps{name}"], 2, -1)
  steps = np.delete(steps, 0, axis=0) if calls == 6 else steps
  checkpoint = loaded(of_scheduler(place, scheduler, tmp_path))
  parts, task = checkpoint.experiment, checkpoint.experiment.task
  request = sampling.requests(checkpoint.run, np.arange(2))
  np.testing.assert_array_equal(request["text"], IO["ids"])
  sample_keys = keys.of_examples(keys.seed(0), request["index"])
  carry, draw = SAMPLERS[sampler]().start(IO["latents"]), jax.jit(task.draw.advance)
  assert (task.draw.stops, task.draw.evaluations) == (5, calls)
  for k, want in enumerate(steps):
    carry, latents, sample = draw(
      checkpoint.params, parts.frozen, task.draw.plan, request, sample_keys, carry, k, k + 1
    )
    np.testing.assert_allclose(latents, want, atol=close * np.abs(want).max())
  vae = trained.trained(str(FOLDER / "vae"), "decode", parallel.create())
  mean, deviation = vae.can["statistics"](vae.params)
  images = jax.jit(vae.can["decode"])(vae.params, sample * deviation + mean)
  np.testing.assert_allclose(np.clip(images / 2 + 0.5, 0, 1), IO[f"images{name}"], atol=close)


def test_the_workdir_is_sampled_from_like_any_other(place, tmp_path):
  checkpoint = loaded(place)
  samples = checkpoint.sample(2, seed=1)
  assert samples["image"].shape == (2, 16, 16, 3) and samples["image"].dtype == np.uint8
  np.testing.assert_array_equal(checkpoint.sample(2, seed=1, text="a cat")["image"][0], samples["image"][0])
  again = workdir.load(place)
  assert again.condition.text.plain and again.model.unet.transformers == (1, 1)


def test_weights_that_have_changed_are_told(place, tmp_path):
  folder = shutil.copytree(FOLDER, tmp_path / "sd")
  one = trained.trained(str(FOLDER / "vae"), "decode", parallel.create())
  assert trained.trained(str(folder / "vae"), "decode", parallel.create()).fingerprint == one.fingerprint
  path = folder / "vae" / "diffusion_pytorch_model.safetensors"
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  assert trained.trained(str(folder / "vae"), "decode", parallel.create()).fingerprint != one.fingerprint


def test_published_names_and_a_tokenizer_of_two_files(tmp_path):
  """As the files of 2022 are: a prefix, a table of positions, and CLIP's vocab.json and merges.txt."""
  folder = shutil.copytree(FOLDER, tmp_path / "sd")
  old = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
  (folder / "tokenizer" / "tokenizer.json").unlink()
  (folder / "tokenizer" / "vocab.json").write_text(json.dumps(old["vocab"]))
  (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
  tokenizer = folders.tokenizer_of(folder / "text_encoder", 9)
  assert tokenizer.fill == old["vocab"][text.CLIP_END]
  np.testing.assert_array_equal(tokenizer(IO["prompts"].tolist()), IO["ids"])


def test_a_ddpm_in_one_folder_predicts_what_diffusers_does(tmp_path):
  folder, io = shutil.copytree(published.ROOT / "unet", tmp_path / "ddpm"), published.arrays("unet")
  plan = {"beta_schedule": "linear", "variance_type": "fixed_large", "clip_sample": True}
  (folder / "scheduler_config.json").write_text(json.dumps(plan))
  checkpoint = sampling.load(imported.ddpm(folder, tmp_path / "run"))
  assert (
    checkpoint.config.sample.ancestral.variance == "fixed_large" and checkpoint.config.sample.steps == 1000
  )
  (make,) = experiment.makers(checkpoint.config, "schedule", "name").values()
  t, schedule = np.float32(io["time"] + 1) / 1000, make()
  alpha, sigma = (part[:, None, None, None] for part in schedule.alpha_sigma(t))
  x0 = jax.jit(lambda x: checkpoint.denoiser()(x, t, schedule).x0)(io["x"])
  eps = (io["x"] - alpha * x0) / sigma
  np.testing.assert_allclose(eps, io["out"], atol=1e-4 * np.abs(io["out"]).max())


@pytest.mark.parametrize(
  "part, change, message",
  [
    (
      "scheduler",
      {"beta_schedule": "squaredcos_cap_v2"},
      "the scheduler's beta_schedule is 'squaredcos_cap_v2'",
    ),
    (
      "scheduler",
      {"_class_name": "DDIMInverseScheduler"},
      "the scheduler's _class_name is 'DDIMInverseScheduler'; it must be one of DDIMScheduler, PNDMScheduler",
    ),
    (
      "scheduler",
      {"_class_name": "PNDMScheduler"},
      "the scheduler's skip_prk_steps is False; it must be one of True",
    ),
    ("unet", {"act_fn": "mish"}, "act_fn is 'mish'"),
    (
      "vae",
      {"_class_name": "VQModel"},
      "vae holds a VQModel; what can be used so is AutoencoderKL, CLIPTextModel",
    ),
    ("text_encoder", {"num_hidden_layers": 1}, "text_encoder has, beyond the network's, 16 tensors"),
  ],
)
def test_a_folder_of_another_kind_is_refused(part, change, message, tmp_path):
  folder = shutil.copytree(FOLDER, tmp_path / "sd")
  name = "scheduler_config.json" if part == "scheduler" else "config.json"
  known = json.loads((folder / part / name).read_text())
  (folder / part / name).write_text(json.dumps(known | change))
  with pytest.raises(ConfigError, match=message):
    imported.stable_diffusion(folder, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_what_is_missing_is_named(place, tmp_path):
  with pytest.raises(ConfigError, match="has no folder unet, vae, text_encoder, scheduler"):
    imported.stable_diffusion(tmp_path, tmp_path / "run")
  with pytest.raises(ConfigError, match="holds a run; name another workdir"):
    imported.stable_diffusion(FOLDER, place)
  with pytest.raises(ConfigError, match="holds no weights; they would be one of"):
    folders.tensors(tmp_path)
  with pytest.raises(ConfigError, match="holds no tokenizer"):
    folders.tokenizer_of(tmp_path / "a", 9)
