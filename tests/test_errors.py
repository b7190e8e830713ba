"""Mistakes and damage: each is one paragraph on standard error, no traceback, and an exit status of its own.

2 is a mistake in what was asked for, 1 a run that cannot go on. Everything runs in this process through the
command line, with a network of one convolution so that little is compiled.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import command
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from diffjax import config as configs
from diffjax import metrics
from diffjax.data.source import ArraySource
from diffjax.jobs import commandline, workdir
from diffjax.jobs.drawing import Sampling
from diffjax.jobs.evaluation import evaluate
from diffjax.jobs.sampling import sample
from diffjax.jobs.training import train
from diffjax.machine import reporting
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.types import ConfigError

JOBS = {"train": train, "sample": sample, "eval": evaluate}
TINY = (
  *(
    "--config=configs/digits.py",
    f"--config.extensions={__name__}",
    "--config.model.name=tiny",
    "--config.compile_cache=False",
  ),
  *("--config.train.batch_size=8", "--config.train.steps=2", "--config.train.warmup=0"),
  *("--config.train.decay=constant", "--config.log.every=1", "--config.log.samples=1"),
  *("--config.log.held_out=0", "--config.checkpoint.every=1", "--config.sample.classifier_free.w=0.0"),
  *("--config.sample.steps=2", "--config.sample.batch_size=8", "--config.sample.count=2"),
)


class Tiny(nn.Module):
  """One convolution, and a shift by the class."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"
  width: int = 256

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    wide = nn.Conv(self.width, (3, 3))(x)
    if self.conditions:
      wide += nn.Embed(11, self.width)(cond["label"])[:, None, None]
    return nn.Conv(self.out_channels, (1, 1))(nn.swish(wide)) + 0 * time[:, None, None, None]


@pytest.fixture(scope="module", autouse=True)
def tiny_model():
  MODELS["tiny"] = Tiny
  yield
  del MODELS["tiny"]


def main(*arguments, jobs=JOBS):
  """What `python main.py ARGUMENTS` does, as often as one likes in a process."""
  return commandline.run(jobs, command.line(*arguments), "doc")


@pytest.fixture
def refused(capsys):
  """Runs a command that must fail; returns what it says, on one line."""

  def run(*arguments, status=2, **kwargs):
    capsys.readouterr()
    assert main(*arguments, **kwargs) == status
    output = capsys.readouterr().err
    assert "Traceback" not in output
    paragraph = output.rstrip("\n").split("\n\n")[-1].removeprefix("\n")
    assert paragraph.startswith("error:") and "\n\n" not in paragraph
    lines = paragraph.splitlines()
    assert all(len(line) <= 110 or " " not in line for line in lines) and len(paragraph) < 900
    return " ".join(lines).removeprefix("error: ")

  return run


@pytest.fixture
def wrong(refused, tmp_path):
  """A command that must fail before anything is made."""

  def run(*arguments, **kwargs):
    message = refused(*TINY, f"--workdir={tmp_path / 'new'}", *arguments, **kwargs)
    assert not (tmp_path / "new").exists()
    return message

  return run


def test_an_entry_from_outside_is_declared_before_it_trains(refused, tmp_path):
  arguments = [argument for argument in TINY if "extensions" not in argument]
  message = refused(*arguments, f"--workdir={tmp_path / 'new'}")
  assert (
    "config.model.name names 'tiny', which the module 'test_errors' has added, but config.extensions is"
    in message
  )
  assert "write c.extensions = ('test_errors',) there" in message and not (tmp_path / "new").exists()


IN_THE_ARGUMENTS = [
  ("--config.train.stepz=3", "config.train.stepz does not exist; did you mean config.train.steps?"),
  ("--config.steps=3", "config.steps does not exist; did you mean config.train.steps?"),
  ("--config.train.steps=3.0", "config.train.steps is given '3.0', but is of type int, for instance 1000."),
  ("--config.train.learning_rate=fast", "config.train.learning_rate is given 'fast', but is of type float"),
  ("--config.deterministic=maybe", "config.deterministic is given 'maybe', but is of type bool"),
  (
    "--config.condition.label.request=none",
    "config.condition.label.request is none; the data's classes are 0 to 9 (zero, one,",
  ),
  (
    "--config.condition.text.request=six",
    "config.condition.text.request is what samples are told by the condition 'text', but config.condition.names is",
  ),
  (
    "--config.train.constant.rates=(1,)",
    "config.train.constant.rates is (1.0,); every element must be at least 0 and less than 1.",
  ),
  (
    "--config.sample.ddim.eta=0.7",
    "config.sample.ddim.eta has no effect here: config.sample.sampler is 'dpmpp_2m'; --config.sample.sampler=ddim "
    "chooses it.",
  ),
  (
    "--config.train.ramp.rates=0.9,",
    "config.train.ramp.rates has no effect here: config.train.averages is ('constant',); "
    "--config.train.averages=\"('ramp',)\" chooses it.",
  ),
  (
    "--config.objective.terms=('l2',)",
    "config.objective.terms has no effect here: config.task.name is 'diffusion', which takes no such thing.",
  ),
  ("--steps=5", "Did you mean --config.train.steps?"),
  ("--config.data.flip=True", "config.data.flip is now --config.data.augment=flip."),
  ("--config.sample.label=3", "config.sample.label is now --config.condition.label.request."),
  (
    "--config.train.ema=0.9,",
    "config.train.ema is now --config.train.ramp.rates, or those of another of --config.train.averages.",
  ),
  ("--config.model.unet.multipliers=(1,2.5)", "config.model.unet.multipliers is (1, 2.5)"),
  ("--config.train=5", "config.train is a section; set its fields one by one, such as config.train."),
  (
    "--config.objective.predict=vv",
    "it must be one of eps, x0, v, score, flow, edm, posterior. Did you mean 'v'?",
  ),
  ("--config.schedule.name=linaer", "config.schedule.name is 'linaer'"),
  ("--config.sample.sampler=dimm", "Did you mean 'ddim'?"),
  ("--config.eval.metrics=fid", "config.eval.metrics is 'fid'; it must be one of classifier, inception"),
  ("--config.eval.metrics=fid", "Did you mean 'inception'?"),
  ("--config.model.dtype=float16", "it must be one of float32, bfloat16."),
  ("--config.sample.weights=em", "config.sample.weights is 'em'"),
  ("--config.schedule.cosine.scale=vq", "scale is 'vq'; it must be one of vp, ve, fm, subvp."),
  (
    "--config.sample.classifier_free.w=nan",
    "config.sample.classifier_free.w is nan; it must be between -1 and 1000.",
  ),
  ("--config.train.learning_rate=nan", "config.train.learning_rate is nan; it must be greater than 0."),
  ("--config.train.learning_rate=-0.1", "config.train.learning_rate is -0.1; it must be greater than 0."),
  ("--config.train.adam.b1=2.0", "config.train.adam.b1 is 2.0; it must be at least 0 and less than 1."),
  ("--config.schedule.cosine.s=nan", "config.schedule.cosine.s is nan; it must be at least 0."),
  ("--config.data.source=digts", "config.data.source is 'digts'; it must be one of digits,"),
  (
    "--config.train.constant.rates=1.0,",
    "config.train.constant.rates is (1.0,); every element must be at least 0 and less than 1.",
  ),
  ("--config.seed=-1", "config.seed is -1; it must be between 0 and 4294967295."),
  ("--config.sample.steps=1001", "it must lie between 1 and the schedule's 1000 steps."),
  (
    "--config.condition.label.request=10",
    "config.condition.label.request is 10; the data's classes are 0 to 9 (zero, one,",
  ),
  ("--config.train.batch_size=12", "config.train.batch_size is 12, which 8 devices do not divide"),
  ("--config.train.accumulate=3", "which config.train.accumulate = 3 does not divide"),
  (
    "--config.objective.predict=flow",
    "config.objective.predict is 'flow', which is a derivative in time, but the schedule is a table",
  ),
  (
    "--config.schedule.name=continuous_cosine",
    "config.objective.times is 'discrete', which draws rows of a table",
  ),
  (
    "--config.eval.metrics=fvd",
    "config.eval.metrics names 'fvd': it is for clips, and the data are image, label; leave it out.",
  ),
  ("--config.train.steps_per_call=4", "is no multiple of config.train.steps_per_call = 4; choose 4, say."),
  ("--config=configs/digit.py", "--config=configs/digit.py is no file. Did you mean configs/digits.py?"),
  ("--mode=trian", "--mode=trian: value should be one of <train|sample|eval>"),
  ("--wrokdir=x", "--wrokdir is no flag. Did you mean --workdir?"),
  ("stray", "'stray' is no flag."),
  (f"--config={300 * 'x'}", f"--config={300 * 'x'} is no file."),
  ("--join=60", "--join=60 is how long processes wait for each other, and this one is alone."),
  ("--join=0", "--join=0"),
  ("--flagfile=/nowhere", "--flagfile is not read here"),
]


@pytest.mark.parametrize("argument, message", IN_THE_ARGUMENTS, ids=[a[:60] for a, _ in IN_THE_ARGUMENTS])
def test_a_mistake_in_one_argument_is_named(argument, message, wrong):
  assert message in wrong(argument)


SEVERAL = {
  "guidance without dropped labels": (
    ("--config.condition.label.dropout=0.0", "--config.sample.classifier_free.w=1.5"),
    "config.sample.guides is ('classifier_free', 'clip'), which needs nulls that were trained, but 'label' is",
  ),
  "guidance without labels": (
    ("--config.condition.names=()", "--config.sample.classifier_free.w=1.5"),
    "config.sample.guides is ('classifier_free', 'clip'), which needs a condition to leave out; name one by",
  ),
  "an index on a continuous schedule": (
    ("--config.schedule.name=continuous_cosine", "--config.objective.times=uniform"),
    "config.objective.time_input is 'index', which is the row of a table, but the schedule is continuous",
  ),
  "a table's grid on a continuous schedule": (
    (
      *("--config.schedule.name=continuous_cosine", "--config.objective.times=uniform"),
      "--config.objective.time_input=logsnr",
    ),
    "config.sample.grid is 'trailing', which walks the rows of a table",
  ),
  "a bound over uniform times": (
    ("--config.objective.weight=vlb", "--config.objective.times=uniform"),
    "choose 'discrete', 'stratified' or 'antithetic'",
  ),
  "a noise level that is none": (
    ("--config.sample.sampler=ddim", "--config.sample.ddim.eta=-0.5"),
    "config.sample.ddim.eta is -0.5; it must be between 0 and 1.",
  ),
  "an unknown variance": (
    ("--config.sample.sampler=ancestral", "--config.sample.ancestral.variance=fixed"),
    "config.sample.ancestral.variance is 'fixed'; it must be one of fixed_small, fixed_large, learned, fixed_medium.",
  ),
  "a learned variance that no one learns": (
    ("--config.sample.sampler=ancestral", "--config.sample.ancestral.variance=learned"),
    "config.sample.sampler is 'ancestral', whose variance is 'learned', but the model learns no variance",
  ),
  "the same in a bound": (
    ("--config.eval.likelihood=('discrete_vlb',)", "--config.eval.discrete_vlb.variance=learned"),
    "config.eval.discrete_vlb.variance is 'learned', but the model learns no variance",
  ),
  "a chain's bound without a chain": (
    (
      *("--config.schedule.name=continuous_cosine", "--config.objective.times=uniform"),
      *("--config.objective.time_input=logsnr", "--config.eval.likelihood=('discrete_vlb',)"),
    ),
    "config.eval.discrete_vlb is the bound over a table's rows, but the schedule is continuous",
  ),
  "a normal distribution beside the schedule": (
    ("--config.objective.times=log_normal", "--config.objective.log_normal.mean=30.0"),
    "config.objective.times is 'log_normal', whose mean is 30.0 and std 1.2",
  ),
  "a standard deviation that is now the space's": (
    ("--config.objective.predict=edm", "--config.objective.edm.sigma_data=0.4"),
    "config.objective.edm.sigma_data is now --config.space.pixels.std",
  ),
  "an attention that no image has": (
    ("--config.model.name=unet", "--config.model.unet.attention=(3,)"),
    "names the size 3, which no feature map of a 8x8 image has",
  ),
  "data that are not prepared": (
    ("--config.data.source=tfds", "--config.data.tfds.data_dir=/nowhere"),
    "config.data.tfds.name is 'cifar10', which is not prepared as array_record under /nowhere.",
  ),
  "data that no one knows": (
    ("--config.data.source=tfds", "--config.data.tfds.name=cifar11"),
    "config.data.tfds.name is 'cifar11', which TFDS does not know.",
  ),
  "a folder that is not there": (
    ("--config.data.source=image_folder", "--config.data.image_folder.path=/nowhere"),
    "config.data.image_folder.path is '/nowhere', which is not a folder",
  ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_a_mistake_of_several_arguments_is_named(case, wrong):
  arguments, message = SEVERAL[case]
  assert message in wrong(*arguments)


def test_pictures_that_leave_their_range_are_named_by_what_moves_them(refused, tmp_path):
  for config in ("digits_gan", "digits_clip"):
    arguments = (f"--config=configs/{config}.py", f"--workdir={tmp_path / 'new'}")
    message = refused(*arguments, "--config.space.pixels.shift=0.1")
    assert "config.space.name is 'pixels', which leaves [-1, 1]" in message
    assert "choose 'pixels' with scale 1 and shift 0" in message


def test_flags_that_are_missing_are_named(refused, tmp_path):
  assert "add --config=configs/digits.py" in refused(f"--workdir={tmp_path}")
  assert "add --workdir=runs/NAME" in refused("--config=configs/digits.py")
  for mode in ("sample", "eval"):
    assert refused(f"--mode={mode}").startswith(
      f"No workdir is named, whose run --mode={mode} needs; add --workdir="
    )
  (tmp_path / "digits").mkdir()
  (tmp_path / "digits" / "config.json").write_text("{}")
  message = refused("--mode=sample", f"--workdir={tmp_path / 'digts'}")
  assert f"holds no run, which --mode=sample needs. Did you mean {tmp_path / 'digits'}?" in message


def test_a_change_that_a_mode_does_not_look_at_is_told(refused, tmp_path):
  config = configs.base()
  (tmp_path / "config.json").write_text(json.dumps({"config": configs.resolved(configs.settled(config))}))
  for mode, field, saved in (
    ("sample", "eval.count=3", 0),
    ("eval", "sample.count=3", 64),
    ("eval", "log.every=5", 100),
  ):
    path, value = field.split("=")
    message = refused(f"--workdir={tmp_path}", f"--mode={mode}", f"--config.{field}", jobs={mode: print})
    assert (
      message == f"config.{path} is {value}, where the run has {saved}; --mode={mode} does not look at it."
    )


BASE = "from diffjax import config\ndef get_config():\n  c = config.base()\n  "


@pytest.mark.parametrize(
  "text, message",
  [
    (
      "import nothing_of_this_name",
      "config.py:1: import nothing_of_this_name: ModuleNotFoundError: No module named 'nothing_of_this_name'",
    ),
    ("def get_config(:", "config.py:1: invalid syntax: def get_config(:"),
    ("def get_config():\n  return 3", "get_config returns 3; it must return a ConfigDict."),
    ("x = 1", "has no function get_config, which returns the config."),
    (f"{BASE}c.train.lr = 1e-3", "config.py:4: c.train.lr = 1e-3: config.train.lr does not exist"),
    (
      f"{BASE}c.steps = 3",
      "config.py:4: c.steps = 3: config.steps does not exist; did you mean config.train.steps?",
    ),
    (
      f"{BASE}c.train.steps = 1e4",
      "config.py:4: c.train.steps = 1e4: config.train.steps must be of type int, for",
    ),
    (f"{BASE}c.train = 3", "config.py:4: c.train = 3: config.train is a section; set its fields one by one."),
    (f"{BASE}c.train.steps = None\n  return c", "config.train.steps is None; it must be of type int."),
    (f"{BASE}c.train.averages = ('ramp', 3)\n  return c", "every element must be of type str."),
    (
      "import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict({'lr': 1})",
      "config.seed is missing; a config begins with config.base(), which has every field.",
    ),
  ],
)
def test_a_config_file_that_fails_is_told_where(text, message, refused, tmp_path):
  path = tmp_path / "config.py"
  path.write_text(text)
  assert message in refused(f"--config={path}", f"--workdir={tmp_path / 'new'}")


def test_what_a_file_sets_in_vain_is_told(tmp_path, capsys):
  file, base = (
    tmp_path / "mine.py",
    "from configs import digits_dit\ndef get_config():\n  c = digits_dit.get_config()\n",
  )
  lines = (
    "c.schedule.linear.steps, c.schedule.linear.beta_end = 100, 0.5",
    "c.sample.ddim.eta = 0.7",
    "return c",
  )
  file.write_text(base + "".join(f"  {line}\n" for line in lines))
  told = lambda *flags: (
    main(f"--config={file}", "--workdir=x", *flags, jobs={"train": lambda *_: None})
    or capsys.readouterr().err
  )
  linear = (
    "config.schedule.linear.beta_end, config.schedule.linear.steps have no effect here: config.schedule.name is "
    "'cosine'; --config.schedule.name=linear chooses it."
  )
  ddim = (
    "config.sample.ddim.eta has no effect here: config.sample.sampler is 'dpmpp_2m'; --config.sample.sampler=ddim "
    "chooses it."
  )
  assert told() in (
    f"warning: {linear} {ddim}\n",
    f"warning: {ddim} {linear}\n",
  )  # nothing of digits.py's U-Net
  assert told("--config.schedule.name=linear") == f"warning: {ddim}\n"
  assert told("--config.schedule.name=geometric") == f"warning: {ddim}\n"  # a flag's choice, not the file's


def test_a_workdir_that_is_a_file_or_under_one_is_named(refused, tmp_path):
  (tmp_path / "file").write_text("x")
  for place in ("file", "file/run"):
    assert f"{tmp_path / 'file'} is a file" in refused(*TINY, f"--workdir={tmp_path / place}")


def test_a_mixture_that_forgets_its_batches_is_not_trained_on_parts_of_the_data(refused, tmp_path):
  message = refused(
    "--config=configs/digits_mixture.py", f"--workdir={tmp_path}", "--config.train.batch_size=64"
  )
  assert (
    "batch_size is 64, but there are 1442 examples, and config.task.mixture.power is 0.0, with which"
    in message
  )
  message = refused(
    "--config=configs/digits_mixture.py", f"--workdir={tmp_path}", "--config.task.mixture.components=141"
  )
  assert "config.task.mixture.components is 141, but class 8 has 140 examples" in message
  assert not [*tmp_path.iterdir()]


def test_buckets_and_names_that_are_too_long_are_refused_at_once(refused, tmp_path):
  for flag, arguments in (
    ("--workdir", ("--workdir=gs://bucket/run",)),
    ("--out", ("--out=s3://bucket", f"--workdir={tmp_path}", "--mode=sample")),
    ("--images", ("--images=gs://bucket/images", f"--workdir={tmp_path}", "--mode=eval")),
    ("config.train.start", ("--config.train.start=gs://bucket/run", f"--workdir={tmp_path}")),
    ("--workdir", (f"--workdir={300 * 'x'}",)),
    ("--out", (f"--out={tmp_path}/{300 * 'x'}/y", f"--workdir={tmp_path}", "--mode=sample")),
  ):
    message = refused("--config=configs/digits.py", *arguments)
    assert (
      f"{flag} is '{arguments[0].split('=')[1]}'; it must be a path; what lies in a bucket must be" in message
    )
  assert not [*tmp_path.iterdir()]


def test_the_home_folder_is_meant_in_every_flag(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "mine.py").write_text("from configs.digits import get_config")
  arguments = ["main.py", "--config=~/mine.py", "--workdir=~/run"]
  _, (_, folder, images) = commandline.parse([*arguments, "--mode=eval", "--images=~/images"])
  _, (_, _, out) = commandline.parse([*arguments, "--mode=sample", "--images=", "--out=~/out"])
  assert (folder, images, out) == (tmp_path / "run", tmp_path / "images", tmp_path / "out")


def test_images_at_sampling_are_what_is_enlarged(refused, tmp_path):
  given = [f"--workdir={tmp_path}", "--mode=sample", "--images=small"]
  mode, (parts, folder, *_) = commandline.parse(["main.py", "--config=configs/emoji_sr.py", "--out=", *given])
  assert (mode, parts.condition.low.images, folder) == ("sample", "small", tmp_path)
  assert "what the condition 'low' is told, which this run does not have" in refused(
    "--config=configs/digits.py", *given
  )


def pictures(folder, count, suffix="png"):
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(count):
    Image.new("RGB", (9, 9), (i, 2 * i, 3)).save(folder / f"{i}.{suffix}")


FOLDER = (
  *("--config.data.source=image_folder", "--config.data.image_folder.size=8", "--config.train.steps=1"),
  *("--config.data.image_folder.test_fraction=0.5", "--config.condition.names=()"),
  "--config.checkpoint.every=1",
)


def test_an_empty_folder_and_a_corrupt_image_are_named(wrong, refused, tmp_path):
  folder = tmp_path / "images"
  pictures(folder, 0)
  path = f"--config.data.image_folder.path={folder}"
  assert f"'{folder}', which holds no images" in wrong(*FOLDER, path)
  for end in (-30, 40):  # within the pixels, then within the header
    pictures(folder, 8)
    for file in folder.iterdir():
      file.write_bytes(file.read_bytes()[:end])
    message = wrong(*FOLDER, path)
    assert f"{folder}/" in message and "cannot be read as an image" in message
  lazy = (*FOLDER, path, "--config.data.image_folder.memory=0", f"--workdir={tmp_path / 'lazy'}")
  assert "cannot be read as an image" in refused(*TINY, *lazy)  # by threads, in the first step


def test_labels_that_the_data_lack_are_told(wrong, tmp_path):
  pictures(tmp_path / "images", 8)
  message = wrong(
    *FOLDER,
    f"--config.data.image_folder.path={tmp_path / 'images'}",
    "--config.condition.names=('label',)",
  )
  assert "config.condition.label.field is 'label', but the data have no int32 field." in message


def test_too_few_samples_for_a_frechet_distance_are_told(refused, tmp_path):
  images = jnp.zeros((2, 8, 8, 1), jnp.uint8)
  one, two = (
    ArraySource({"image": images[:n], "label": jnp.zeros(n, jnp.int32)}, str(n), {"label": 2}) for n in (1, 2)
  )

  for split, sources in (("train", (one, two)), ("test", (two, one))):
    judge = lambda config, folder, sources=sources: metrics.METRICS["classifier"](*sources, None)
    message = refused(*TINY, f"--workdir={tmp_path}", "--mode=eval", jobs={"eval": judge})
    assert "needs at least 2 images in each split" in message and f"the {split} split has 1" in message


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run of two steps."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  assert main(*TINY, f"--workdir={folder}") == 0
  return folder


def test_a_finished_run_says_so_and_changes_no_checkpoint(trained, monkeypatch, capsys):
  monkeypatch.setattr(Parallel, "train", lambda *_: pytest.fail("a step was compiled"))
  saved = trained / "checkpoints"
  files = lambda: {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in saved.rglob("*") if p.is_file()}
  before = files()
  assert main(*TINY, f"--workdir={trained}") == 0
  assert f"{trained} is finished: step 2 of 2." in capsys.readouterr().err
  assert before and files() == before


@pytest.mark.parametrize("mode", ["sample", "eval"])
def test_a_workdir_whose_only_save_was_cut_short_says_so(mode, refused, trained, tmp_path):
  shutil.copy(trained / "config.json", tmp_path)
  (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  message = refused(f"--workdir={tmp_path}", f"--mode={mode}", "--config.eval.metrics=('classifier',)")
  assert message == f"--workdir={tmp_path} holds no whole checkpoint yet; train first, or on."


def test_what_is_not_trained_cannot_be_sampled(refused, trained, tmp_path):
  (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
  for mode in ("sample", "eval"):
    assert "holds no checkpoint yet; train first." in refused(f"--workdir={tmp_path}", f"--mode={mode}")


def test_the_workdir_of_another_config_is_refused_by_field_and_both_values(refused, trained):
  before = (trained / "config.json").read_bytes()
  message = refused(
    *TINY, f"--workdir={trained}", "--config.objective.predict=eps", "--config.train.learning_rate=0.5"
  )
  assert f"--workdir={trained} holds the run of another config" in message
  assert "config.objective.predict is 'eps' here and 'v' there" in message
  assert "config.train.learning_rate is 0.5 here and 0.001 there" in message
  assert "config.train.steps is 1 here and 2 there" in refused(
    *TINY, f"--workdir={trained}", "--config.train.steps=1"
  )
  assert (trained / "config.json").read_bytes() == before


def test_a_workdir_in_which_another_process_trains_is_refused_until_that_one_dies(refused, trained):
  def files():
    return {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}

  hold = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(); time.sleep(600)"
  before = files()
  with subprocess.Popen([sys.executable, "-c", hold, trained / "lock"], stdout=subprocess.PIPE) as other:
    other.stdout.readline()
    try:
      message = refused(*TINY, f"--workdir={trained}")
    finally:
      other.kill()
  assert f"another process is training in --workdir={trained} " in message
  assert files() == before
  assert main(*TINY, f"--workdir={trained}") == 0


def test_a_run_holds_the_lock_of_its_workdir_where_there_are_locks(monkeypatch, trained):
  def create(*arguments, **keywords):
    with pytest.raises(ConfigError, match="another process is training"), workdir.locked(trained):
      pass
    with workdir.locked(trained, writes=False):  # a run's other processes
      return parts(*arguments, **keywords)

  parts = reporting.create
  monkeypatch.setattr(reporting, "create", create)
  assert main(*TINY, f"--workdir={trained}") == 0

  def flock(file, how):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", flock)
  with workdir.locked(trained), workdir.locked(trained):
    pass


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {"train": {"steps": "many"}}}'])
def test_a_damaged_config_is_named(text, refused, tmp_path):
  (tmp_path / "config.json").write_text(text)
  for arguments in ((), TINY):
    message = refused(*arguments, f"--workdir={tmp_path}")
    assert f"{tmp_path / 'config.json'} is damaged" in message


def test_a_saved_field_that_is_gone_is_named(refused, trained, tmp_path):
  saved = json.loads((trained / "config.json").read_text())
  saved["config"]["train"]["stepz"] = 3
  (tmp_path / "config.json").write_text(json.dumps(saved))
  assert "config.train.stepz does not exist" in refused(f"--workdir={tmp_path}", "--mode=sample")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_with_the_way_out(refused, trained, tmp_path):
  def damaged(name, mode, damage):
    shutil.copytree(trained, tmp_path / name)
    damage(tmp_path / name / "checkpoints" / "2")
    arguments = (f"--workdir={tmp_path / name}", f"--mode={mode}", "--config.train.steps=3")
    message = refused(*arguments, status=1)
    assert f"The checkpoint {tmp_path / name / 'checkpoints' / '2'} is damaged" in message
    assert message.endswith("Bring it back from a copy, or move it out of the workdir to go on from step 1.")
    return message

  def flip(folder):
    about = folder / "about" / "metadata"
    record = json.loads(about.read_text())
    del record["digest"]  # which would be the first to be wrong
    path = next(path for path in record["checksums"] if "kernel" in path)
    record["checksums"][path] ^= 8
    about.write_text(json.dumps(record))

  for mode in JOBS:
    assert "the bytes of" in damaged(f"flip_{mode}", mode, flip)
  cut = lambda folder: (folder / "state" / "_METADATA").write_bytes(b'{"tree')
  assert "weights cannot be read" in damaged("cut", "sample", cut)
  assert "it has no state" in damaged("gone", "train", lambda folder: shutil.rmtree(folder / "state"))
  shutil.rmtree(tmp_path / "flip_train" / "checkpoints" / "2")
  assert main(f"--workdir={tmp_path / 'flip_train'}", "--mode=sample") == 0


@pytest.mark.parametrize("mode", JOBS)
def test_a_checkpoint_that_is_none_is_not_a_finished_run(mode, refused, trained, tmp_path):
  folder = shutil.copytree(trained, tmp_path / "run") / "checkpoints"
  longer = (f"--workdir={folder.parent}", f"--mode={mode}", "--config.train.steps=3")
  (folder / "3").mkdir()
  assert f"{folder / '3'} is damaged: it has no state" in refused(*longer, status=1)
  (folder / "3").rmdir()
  (folder / "2").rename(folder / "3")
  assert f"{folder / '3'} holds the checkpoint of step 2" in refused(*longer, status=1)


def test_what_cannot_be_written_is_known_before_the_first_step(refused, trained, tmp_path, monkeypatch):
  run = tmp_path / "run"
  shutil.copytree(trained, run, ignore=shutil.ignore_patterns("checkpoints", "samples"))
  for name in ("checkpoints", "samples"):
    (run / name).write_text("a file")
  assert f"{run / 'checkpoints'} is a file" in refused(*TINY, f"--workdir={run}")
  (run / "checkpoints").unlink()
  shutil.copytree(trained / "checkpoints", run / "checkpoints")
  message = refused(f"--workdir={run}", "--mode=sample")
  assert message.startswith(f"{run / 'samples'} cannot be made: {run / 'samples'} is a file")
  assert f"--out={run / 'samples'}" in refused(f"--workdir={run}", "--mode=eval", f"--out={run / 'samples'}")
  usage = type(shutil.disk_usage(run))
  monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**6, 10**6, 1000))
  message = refused(*TINY, f"--workdir={tmp_path / 'full'}")
  assert f"{tmp_path / 'full' / 'checkpoints'} needs room for" in message and "1 kB are free" in message
  assert not any((tmp_path / "full" / "checkpoints").iterdir())


def test_an_error_of_the_file_system_is_a_paragraph(refused, tmp_path):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

  message = refused(*TINY, f"--workdir={tmp_path}", status=1, jobs=dict.fromkeys(JOBS, full))
  assert message.startswith("/data/x: No space left on device. ") and "make room there" in message


def test_a_run_outlives_pictures_that_it_cannot_draw(monkeypatch, tmp_path, capsys):
  def broken(self, *_):
    raise ConfigError("1 of 8 samples are not finite")

  monkeypatch.setattr(Sampling, "draw", broken)
  assert main(*TINY, f"--workdir={tmp_path}", "--config.log.sample_every=1") == 0
  output = capsys.readouterr().err
  assert output.count("warning: the grid of samples failed, and the run goes on without: 1 of 8 samples") == 1
  assert "finished: step 2" in output and (tmp_path / "checkpoints" / "2").is_dir()


def test_a_cosine_that_is_longer_is_another_run_and_the_way_is_named(refused, trained, tmp_path):
  run = shutil.copytree(trained, tmp_path / "run")
  saved = json.loads((run / "config.json").read_text())
  saved["config"]["train"]["decay"] = "cosine"
  (run / "config.json").write_text(json.dumps(saved))
  message = refused(f"--workdir={run}", "--config.train.steps=3")
  assert f"config.train.steps is 3 here and 2 in --workdir={run}, whose learning rates fall" in message
  assert message.endswith(f"in a new workdir, by --config.train.start={run}.")


def test_beside_an_average_that_is_still_the_initial_network_stands_the_raw_one(trained):
  pictures = {path.name: path.read_bytes() for path in (trained / "samples").glob("*.png")}
  (average,), (raw,) = ([n for n in pictures if n.startswith(kind)] for kind in ("grid_", "raw_"))
  assert pictures[average] != pictures[raw]


def test_samples_are_kept_by_all_that_makes_them_and_not_drawn_twice(trained, tmp_path, monkeypatch, capsys):
  def draw(self, params, key, request, done=None):
    draws.append(None)
    return {"image": np.full((len(request["index"]), 8, 8, 1), len(draws), np.uint8)}

  draws = []
  monkeypatch.setattr(Sampling, "draw", draw)
  monkeypatch.setattr(Sampling, "strip", lambda *_: None)
  sampled = lambda *how: main(f"--workdir={trained}", "--mode=sample", f"--out={tmp_path}", *how)
  ways = [(), ("--config.sample.weights=raw",), ("--config.sample.classifier_free.w=0.5",)]
  ways += [("--config.condition.label.request=3",), ("--config.sample.count=3",), ("--config.sample.seed=1",)]
  for how in ways:
    assert sampled(*how) == 0
  results = {path: path.read_bytes() for path in tmp_path.glob("*.npz")}
  assert len(results) == len(set(results.values())) == len(draws) == len(ways)
  output = capsys.readouterr().err
  assert "warning: 99% of the ema_0.995 weights are still those of step 0" in output
  assert sampled() == 0 and "these samples are there already" in capsys.readouterr().err
  assert len(draws) == len(ways) and results == {path: path.read_bytes() for path in tmp_path.glob("*.npz")}


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_step(refused, tmp_path):
  arguments = (*TINY, f"--workdir={tmp_path}", "--config.train.learning_rate=1e15", "--config.train.steps=6")
  for _ in range(2):  # the same command ends the same way
    message = refused(*arguments, status=1)
    assert message.startswith("At step 2 the loss was ")
    assert "step 1 is the last checkpoint from before" in message and f"{tmp_path}/config.json" in message
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1]


def test_help_tells_the_flags(capsys):
  assert main("--help") == 0
  output = capsys.readouterr().out
  assert "doc" in output and all(f"--{flag}" in output for flag in ("config", "workdir", "mode"))


def test_a_run_that_goes_on_within_a_chunk_is_refused_rather_than_lost(refused, tmp_path):
  arguments = (*TINY, f"--workdir={tmp_path}", "--config.train.decay=constant", "--config.log.every=1")
  assert main(*arguments, "--config.train.steps=3") == 0
  longer = (*arguments, "--config.train.steps=8", "--config.log.every=4", "--config.checkpoint.every=4")
  message = refused(*longer, "--config.train.steps_per_call=4")
  assert "config.train.steps_per_call is 4, but the run goes on from step 3" in message
  assert main(*longer, "--config.train.steps_per_call=1") == 0
  assert "8" in {path.name for path in (tmp_path / "checkpoints").iterdir()}


def test_a_workdir_that_the_file_system_refuses_is_named_by_its_flag(refused):
  message = refused(*TINY, "--workdir=/proc/x")
  assert (
    message == "--workdir=/proc/x cannot be made: /proc/x: No such file or directory; name another folder."
  )


def test_a_workdir_without_a_checkpoint_takes_another_config(tmp_path):
  arguments = (*TINY, f"--workdir={tmp_path}", "--config.train.steps=2")
  assert main(*arguments, "--config.train.learning_rate=1e30") == 1
  assert main(*arguments, "--config.train.learning_rate=1e-3") == 0


@pytest.fixture
def saving(monkeypatch):
  """Makes saves take a second longer in the background, and the one of a step fail; returns how."""
  save = ocp.StandardCheckpointHandler.async_save

  class Late:
    def __init__(self, before, fails):
      self._before, self._fails = before, fails

    def result(self, timeout=None):
      time.sleep(1)
      for other in self._before:
        other.result(timeout)
      if self._fails:
        raise OSError(errno.ENOSPC, "No space left on device")

  def start(failing=None):
    async def late(self, directory, *arguments, **options):
      before = await save(self, directory, *arguments, **options) or []
      return [Late(before, f"/{failing}." in f"{directory}")]

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "async_save", late)

  return start


def test_a_run_says_that_a_step_is_saved_once_it_is(saving, monkeypatch, tmp_path, capsys):
  say, place, whole = reporting.Reporter.line, Parallel.place, []

  def line(self, text):
    if "SIGTERM: step 2 is saved" in text:
      whole.extend(path.name for path in (tmp_path / "checkpoints").iterdir())
    say(self, text)

  def placed(self, *batch):
    calls.append(None)
    if len(calls) == at:
      os.kill(os.getpid(), signal.SIGTERM)
    return place(self, *batch)

  monkeypatch.setattr(reporting.Reporter, "line", line)
  monkeypatch.setattr(Parallel, "place", placed)
  more = ("--config.train.steps=3", "--config.checkpoint.every=3")
  at, calls = 1, []  # before the first step is done there is nothing to save
  assert main(*TINY, *more, f"--workdir={tmp_path}") == 128 + signal.SIGTERM
  assert whole == [] and "finished" not in (tmp_path / "log.txt").read_text()
  output = capsys.readouterr().err
  assert output.rstrip().endswith(
    "SIGTERM: ending. What is saved stays, and the same command goes on from there."
  )
  at, calls = 2, []
  saving()
  assert main(*TINY, *more, f"--workdir={tmp_path}") == 0
  assert whole == ["2"]
  output = capsys.readouterr().err
  assert output.index("compiling the training step") < output.index("SIGTERM: saving after this step")
  assert "compiled and step 1 done in" in output


def test_a_run_whose_last_save_fails_is_not_finished(saving, refused, tmp_path):
  saving(failing=2)
  message = refused(*TINY, f"--workdir={tmp_path}", status=1)
  assert message.startswith(f"A checkpoint could not be saved in {tmp_path}/checkpoints (")
  assert "No space left on device" in message
  assert message.endswith("When there is room, the same command goes on from step 1.")
  assert "finished" not in (tmp_path / "log.txt").read_text()
  assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()] == ["1"]
