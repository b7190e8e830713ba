"""python -m experiments.cifar10_minutes: see README.md."""

import argparse
import ast
import sys
import time
from collections.abc import Mapping
from pathlib import Path

START = time.monotonic()  # before jax is imported
CONFIG = "configs/cifar10_minutes.py"
PART = 5000  # samples in a file: 15 MB
REHEARSED = 1000  # random images
STAGES = ("train", "draw", "score")  # of a rehearsal


def arguments(argv=None) -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser("python -m experiments.cifar10_minutes", allow_abbrev=False)
  parser.add_argument("--workdir", type=Path, default=Path("runs/cifar10_minutes"))
  parser.add_argument("--minutes", type=float, default=10.0, help="from the start to the first samples' end")
  parser.add_argument(
    "--reserve", type=float, default=40.0, help="seconds of these that are kept for sampling"
  )
  parser.add_argument("--data", default="", help="an npz of images and labels; by default CIFAR-10 from TFDS")
  parser.add_argument("--count", type=int, default=10_000, help="samples that are drawn and kept")
  parser.add_argument(
    "--inception", type=Path, help="FID's network (npz); scored if it is there after training"
  )
  parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for that file")
  parser.add_argument("--scored", type=int, default=50_000, help="samples for the FID")
  parser.add_argument(
    "--score_minutes", type=float, default=5.0, help="to the end of scoring, after sampling"
  )
  parser.add_argument("--guidance", default="0.0,0.25,0.6", help="weights to choose from")
  parser.add_argument("--chosen_on", type=int, default=2500, help="samples for that choice")
  parser.add_argument("--together", type=int, default=500, help="images that pass Inception together")
  parser.add_argument("--referred", type=int, default=0, help="training images in the reference; 0 for all")
  parser.add_argument("--calls", type=int, default=0, help="of the step at most; 0 for any number")
  parser.add_argument(
    "--rehearse",
    nargs="?",
    const=",".join(STAGES),
    help="random images and weights, few calls: compiles these stages, by default all (%(const)s)",
  )
  args, rest = parser.parse_known_args(argv)
  args.stages = (args.rehearse or ",".join(STAGES)).split(",")
  if unknown := set(args.stages) - set(STAGES):
    parser.error(f"--rehearse: there is no stage {min(unknown)}; there are {', '.join(STAGES)}")
  args.overrides = dict(one.removeprefix("--config.").split("=", 1) for one in rest)
  return args


def configured(overrides: Mapping[str, str]):
  """The recipe's config with these fields changed."""
  from diffjax.config import require_field
  from diffjax.jobs import config_file

  config = config_file.load(CONFIG)
  if not config.train.steps_per_call:
    config.train.steps_per_call = 10
  for path, text in overrides.items():
    require_field(config, path)
    *sections, field = path.split(".")
    section = config
    for name in sections:
      section = section[name]
    section[field] = text if section.get_type(field) is str else ast.literal_eval(text)
  return config


class Results:
  """results.json in the workdir, written anew with every addition, and lines with the seconds since the start."""

  def __init__(self, folder: Path):
    """The folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._results = folder, {}

  def add(self, **entries) -> None:
    """Adds and writes."""
    from diffjax.machine import atomic

    self._results |= entries
    atomic.write_json(self._folder / "results.json", self._results)
    self.say(
      ", ".join(f"{name} {value}" for name, value in entries.items() if name not in ("config", "losses"))
    )

  def say(self, text: str) -> None:
    """One line."""
    print(f"[{time.monotonic() - START:6.1f} s] {text}", flush=True)


def images_of(args, config):
  """The training split; random images where it is a rehearsal."""
  import numpy as np

  from diffjax import experiment
  from diffjax.data.source import ArraySource

  if args.rehearse:
    rng, label = np.random.default_rng(0), np.arange(REHEARSED, dtype=np.int32) % 10
    pixels = rng.integers(0, 256, (REHEARSED, 32, 32, 3), np.uint8)
    return ArraySource({"image": pixels, "label": label}, "random", {"label": 10})
  if args.data:  # all of the file is for training
    config.data.source = "arrays"
    config.data.arrays.path = config.data.arrays.test_path = args.data
  return experiment.source(config, "train")


def main(argv=None) -> int:
  """Trains, samples, scores."""
  args = arguments(argv)
  import jax
  import numpy as np

  from diffjax import experiment, keys
  from diffjax.config import resolved
  from diffjax.jobs import commandline
  from diffjax.machine import atomic, parallel
  from experiments.cifar10_minutes import clock, drawing, loop

  config = configured(args.overrides)
  commandline.prepare(config)
  results, devices = Results(args.workdir), parallel.create(config.parallel.mode)
  source = images_of(args, config)
  parts = drawing.asking(experiment.create(config, source.fields), source.fields)
  (scale,) = experiment.makers(config, "train", "optimizer").values()
  parts = clock.by_the_clock(parts, scale())
  device = jax.devices()[0].device_kind
  results.add(device=device, jax=jax.__version__, images=len(source), config=resolved(config))

  if "train" in args.stages:
    params = _train(args, results, parts, devices, source)
  else:
    params = loop.untrained(parts, devices)
  if args.stages == ["train"]:
    return 0
  key, w = keys.seed(config.sample.seed), config.sample.classifier_free.w
  draw, samples = drawing.drawing(parts, devices), np.zeros((0, 32, 32, 3), np.uint8)
  if "draw" in args.stages:
    samples = _drawn(args, results, lambda index: draw(params, key, w, index))
  if not args.rehearse:
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    with atomic.writing(args.workdir / "ema.npz") as file:
      np.savez(file, **devices.fetch(leaves))

  def again(weight, index):
    if weight == w and index.max() < len(samples):
      return samples[index]
    if "draw" not in args.stages:
      return source.read(index % len(source), ("image",))["image"]
    return draw(params, key, weight, index)

  if "score" in args.stages and (args.rehearse or args.inception):
    _score(args, results, source, devices, again)
  return 0


def _train(args, results: Results, parts, devices, source):
  """The moving average after training as long as the time reaches."""
  from experiments.cifar10_minutes import loop

  until = START + 60 * args.minutes - args.reserve
  trained = loop.train(parts, devices, source, until, args.calls, results.say)
  settings = parts.config.train
  later = trained.steps - settings.steps_per_call
  results.add(
    steps=trained.steps,
    start_seconds=trained.start,
    training_seconds=trained.seconds,
    images_seen=trained.steps * settings.batch_size,
    images_per_second=later * settings.batch_size / trained.seconds if later else None,
    losses=trained.losses,
  )
  return trained.params


def _drawn(args, results: Results, draw):
  """Samples, which are kept, and a picture of the first."""
  import numpy as np

  from diffjax.machine import atomic, pictures

  began = time.monotonic()
  samples = draw(np.arange(args.count))
  results.add(
    sampling_seconds=time.monotonic() - began, samples=args.count, done_seconds=time.monotonic() - START
  )
  for number, start in enumerate(range(0, len(samples), PART)):
    with atomic.writing(args.workdir / f"samples_{number}.npz") as file:
      np.savez(file, images=samples[start : start + PART])
  pictures.save_png(args.workdir / "grid.png", pictures.grid(samples[:100]))
  return samples


def _score(args, results: Results, source, devices, draw) -> None:
  """FID, if the network's weights are there."""
  import jax
  import numpy as np

  from diffjax.machine import pictures
  from diffjax.metrics import inception, inception_weights
  from experiments.cifar10_minutes import score

  until = time.monotonic() + 60 * args.score_minutes
  if args.rehearse:
    shape = np.zeros((1, inception.SIZE, inception.SIZE, 3), np.float32)
    variables = jax.jit(inception.Inception().init)(jax.random.key(0), shape)
  else:
    while not args.inception.exists() and time.monotonic() < START + 60 * args.minutes + args.wait:
      time.sleep(0.2)
    if not args.inception.exists():
      return results.say(f"{args.inception} is not there: no FID")
    weights = inception_weights.load(args.inception)
    variables, _ = weights.variables, results.add(inception=weights.digest, published=weights.published)
  referred = 2 * args.together if args.rehearse else args.referred or len(source)
  images = source.read(np.arange(referred), ("image",))["image"]
  scorer = score.scorer(variables, images, args.together, devices)
  results.add(reference_images=scorer.reference.count)
  ways = [float(w) for w in args.guidance.split(",")]
  weights = score.choose(scorer, draw, ways, args.chosen_on, until)
  best = min(weights, key=weights.get)
  results.add(chosen_on=args.chosen_on, fid_of_guidance=weights, guidance=best)
  score.judged(scorer, lambda index: draw(best, index), args.scored, until, lambda fid: results.add(**fid))
  pictures.save_png(args.workdir / "grid_chosen.png", pictures.grid(draw(best, np.arange(100))))
  results.add(scored_seconds=time.monotonic() - START)


if __name__ == "__main__":
  from diffjax.types import ConfigError, RunError

  try:
    sys.exit(main())
  except (ConfigError, RunError) as error:
    sys.exit(str(error))
