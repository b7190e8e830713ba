"""main.py's command line: --config with its overrides, and every mistake told in one paragraph.

    --config=configs/digits.py --config.objective.predict=v --workdir=runs/digits --mode=train

Where the workdir holds a run, --config may be left out: the run's own is taken.
"""

import contextlib
import difflib
import gc
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from diffjax.jobs import config_file, show
from diffjax.machine import disk, processes, signals
from diffjax.machine.byproducts import to_stderr
from diffjax.ranges import LOCAL, check
from diffjax.types import ConfigError, RunError

CACHE = "~/.cache/diffjax/compiled"
SAVED = Path(__file__).with_name("saved_config.py")
# When Python looks for garbage. Importing and tracing make millions of small objects that stay; by default they
# are looked through again and again, a fifth to a quarter of the time that JAX takes to trace and lower a step.
GARBAGE = (100_000, 50, 50)
MODES = ("train", "sample", "eval")
# Fields that a mode does not look at.
IDLE = {
  "sample": r"config\.(eval|log|checkpoint)\.",
  "eval": r"config\.(log|checkpoint|sample\.(count|checkpoint)$)",
}

GIVEN = []  # the arguments that are parsed, among which ml_collections looks for overrides

config_flags.DEFINE_config_file(
  "config", None, "The config, a file; --config.FIELD=VALUE changes a field of it.", sys_argv=GIVEN
)
flags.DEFINE_string("workdir", None, "The folder of the run; training again in it goes on where it stopped.")
flags.DEFINE_string(
  "images",
  None,
  "A folder of images: with --mode=eval they are judged instead of samples; with --mode=sample each is what the "
  "condition 'low' of a sample is told, the small image that it enlarges. Other conditions take their requests from "
  "the config.",
)
flags.DEFINE_string(
  "out",
  None,
  "With --mode=sample or eval: the folder that results go to, instead of WORKDIR/samples and WORKDIR/eval.",
)
flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for a run of several processes.")
flags.DEFINE_integer(
  "processes", None, "Their number; not needed under srun and on the hosts of a TPU slice."
)
flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
flags.DEFINE_integer(
  "join", None, f"Seconds in which all of them must have started; {processes.JOIN} by default.", lower_bound=1
)
flags.DEFINE_bool(
  "show",
  False,
  "Print the config, what its fields may be and all choices; checks the data too, and trains nothing.",
)
flags.DEFINE_enum("mode", "train", MODES, "What to do.")


def value_of(argv: Sequence[str], flag: str) -> str | None:
  """The last value given as --flag=value or --flag value."""
  last = None
  for argument, following in zip(argv, [*argv[1:], None], strict=True):
    name, equals, value = argument.lstrip("-").partition("=")
    if argument.startswith("-") and name == flag:
      last = value if equals else following
  return last


def without(argv: Sequence[str], flag: str) -> list[str]:
  """The arguments but for --flag=value and --flag value."""
  rest, skip = [], False
  for argument in argv:
    if not skip and not re.match(f"--?{flag}(=|$)", argument):
      rest.append(argument)
    skip = not skip and argument.lstrip("-") == flag and argument.startswith("-")
  return rest


def parse(argv: list[str]) -> tuple[str, tuple]:
  """The job's name and its arguments: the config with its overrides, the workdir, and a folder of images.

  Raises:
    ConfigError: a flag, a field or a value that cannot be right.
  """
  from diffjax.config import leaves, require_field, require_used, settled
  from diffjax.jobs import workdir

  for flag in ("workdir", "images", "out"):
    check(f"--{flag}", value_of(argv, flag), LOCAL)
  folder, place = (
    value and os.path.expanduser(value) for value in (value_of(argv, "workdir"), value_of(argv, "config"))
  )
  if place is None and folder and workdir.has_run(Path(folder)):
    place = f"{SAVED}:{folder}"
  if any(re.match("--?flagfile(=|$)", argument) for argument in argv):
    raise ConfigError("--flagfile is not read here; give the arguments themselves, or write a config file.")
  overrides = [re.split("=", a.lstrip("-"), maxsplit=1) for a in argv if re.match(r"--?config\.", a)]
  if place is None:
    raise ConfigError(_no_run(folder, value_of(argv, "mode") or "train"))
  config, bases = config_file.with_bases(place)
  for name, *_ in overrides:
    require_field(config, name.removeprefix("config."))
  try:
    # A config must stand before its overrides.
    GIVEN[:] = [argv[0], f"--config={place}", *without(argv[1:], "config")]
    rest = flags.FLAGS(GIVEN)
  except flags.Error as error:
    raise ConfigError(_message(error, config, argv)) from None
  if rest[1:]:
    raise ConfigError(f"{rest[1]!r} is no flag. See python main.py --help.")
  mode, images, out = flags.FLAGS.mode, flags.FLAGS.images, flags.FLAGS.out
  config = flags.FLAGS.config
  if images and mode == "sample":
    if "low" not in config.condition.names:
      raise ConfigError(
        f"--images={images} is what the condition 'low' is told, which this run does not have."
      )
    config.condition.low.images = images
  config = settled(config)
  for name, *_ in overrides:
    _check_request(config, name)
  overridden = [name.removeprefix("config.") for name, *_ in overrides]
  require_used(config, overridden)
  if (text := config_file.in_vain(config, bases, overridden)) and not processes.is_child():
    to_stderr(f"warning: {text}")
  if mode in IDLE and folder and workdir.has_run(Path(folder)):
    _require_effect(mode, dict(leaves(config)), dict(leaves(workdir.load(Path(folder)))), overrides)
  if flags.FLAGS.show:
    return "show", (config, mode, Path(folder) if folder else None)
  if not flags.FLAGS.workdir:
    raise ConfigError("No workdir is named; add --workdir=runs/NAME.")
  arguments = (config, Path(flags.FLAGS.workdir).expanduser())
  if out and (mode == "train" or images and mode != "sample"):
    raise ConfigError(
      f"--out={out} is where samples and their evaluation go, but this is --mode={mode} of others."
    )
  if out:
    arguments = (*arguments, Path(out).expanduser())
  if not images or mode == "sample":
    return mode, arguments
  if mode != "eval":
    raise ConfigError(
      f"--images={images} is judged by --mode=eval or enlarged by --mode=sample, but --mode is {mode}."
    )
  return "score", (*arguments, Path(images).expanduser())


def _check_request(config: ConfigDict, name: str) -> None:
  """Raises ConfigError at a request of a condition that the run was not trained with."""
  match = re.fullmatch(r"config\.condition\.(\w+)\.request", name)
  if match and match[1] not in config.condition.names:
    raise ConfigError(
      f"{name} is what samples are told by the condition {match[1]!r}, but config.condition.names is "
      f"{config.condition.names}; sample from a run that was trained with it."
    )


def _require_effect(mode: str, new: dict, old: dict, overrides: list) -> None:
  """Raises ConfigError at a change of the run's config that a mode does not look at."""
  for name, *_ in overrides:
    path = name.removeprefix("config.")
    if re.match(IDLE[mode], name) and new[path] != old.get(path):
      raise ConfigError(
        f"{name} is {new[path]!r}, where the run has {old.get(path)!r}; --mode={mode} does not look at it."
      )


def _no_run(folder: str | None, mode: str) -> str:
  """What is wrong where no config is named and the workdir holds none."""
  if folder is None and mode != "train":
    return f"No workdir is named, whose run --mode={mode} needs; add --workdir=runs/NAME."
  if mode == "train":
    return "No config is named; add --config=configs/digits.py, say."
  place = Path(folder).expanduser()
  others = [str(path.parent) for path in sorted(place.parent.glob("*/config.json"))]
  near = difflib.get_close_matches(str(place), others, n=1)
  hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(others)}." if others else ""
  return f"--workdir={folder} holds no run, which --mode={mode} needs.{hint}"


def own() -> list[str]:
  """The names of this program's flags; those of libraries are not among them."""
  return ["help", *(flag.name for flag in flags.FLAGS.get_key_flags_for_module(__name__))]


def _message(error: Exception, config: ConfigDict, argv: Sequence[str]) -> str:
  """absl's message; for a field of the config the type that would be right."""
  from diffjax.config import leaves

  text = str(error).rstrip(".")
  match = re.match(r"flag --config\.([\w.]+)=", text)
  if not match:
    unknown = re.match(r"Unknown command line flag '([^']+)'", text)
    if not unknown:
      return f"{text}. See python main.py --help."
    fields = [path for path, _ in leaves(config) if path.split(".")[-1] == unknown[1]]
    fields.sort(key=lambda path: (path.count("."), not path.startswith("train.")))
    near = [f"config.{path}" for path in fields] or difflib.get_close_matches(unknown[1], own(), n=1)
    hint = f" Did you mean --{near[0]}?" if near else ""
    return f"--{unknown[1]} is no flag.{hint} See python main.py --help."
  path = match[1]
  *sections, field = path.split(".")
  for section in sections:
    config = config[section]
  example = "" if config[field] is None else f", for instance {config[field]!r}"
  argument = value_of(argv, f"config.{path}")
  return f"config.{path} is given {argument!r}, but is of type {config.get_type(field).__name__}{example}."


def prepare(config: ConfigDict) -> None:
  """Sets what JAX reads before it looks for devices."""
  from diffjax.machine import compiled

  logging.set_verbosity(
    logging.FATAL
  )  # libraries' advice, and pages about errors that end in a paragraph here
  if config.deterministic:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
  if config.compile_cache:
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or CACHE
    seconds = os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    compiled.keep(Path(folder).expanduser(), float(seconds))


def run(jobs: dict[str, Callable[..., None]], argv: list[str], about: str) -> int:
  """Does the job that the arguments name.

  Returns:
    The exit status: 2 for a mistake in the arguments, 1 for a run that cannot go on, else 0.

  Args:
    jobs: by mode, called with the config and the workdir; and "score", which gets a folder of images too.
    argv: the program's arguments, its name first.
    about: what --help says first.
  """
  if {"--help", "-h", "-help", "--helpshort"} & set(argv):
    print(f"{about}\n{flags.FLAGS.module_help(sys.modules[__name__])}\n\n{show.sections()}")
    return 0
  gc.set_threshold(*GARBAGE)
  child = processes.is_child()
  try:
    job, arguments = parse(argv)
    others = [flags.FLAGS[name].value for name in ("coordinator", "processes", "process")]
    several, seconds = processes.several(*others), flags.FLAGS.join
    if seconds and not several:
      raise ConfigError(f"--join={seconds} is how long processes wait for each other, and this one is alone.")
    if several and not child:
      return processes.watched([sys.executable, *sys.orig_argv[1:]], seconds or processes.JOIN)
    prepare(arguments[0])
    if several:
      processes.join(*others, seconds or processes.JOIN)
    jax_hears = child and job == "train"  # where it finds the step after which all processes save
    with contextlib.nullcontext() if jax_hears else signals.ending():
      jobs[job](*arguments)
    return 0
  except (ConfigError, RunError, OSError) as error:
    text = disk.paragraph(error) if isinstance(error, OSError) else str(error)
    print(
      f"\n{textwrap.fill(f'error: {text}', 110, break_long_words=False, break_on_hyphens=False)}",
      file=sys.stderr,
    )
    status = 2 if isinstance(error, ConfigError) else 1
  except SystemExit as stopped:  # a signal's
    status = stopped.code
  return processes.leave(status) if child else status
