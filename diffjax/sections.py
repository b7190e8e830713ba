"""The plain fields of a config, section by section: default, type, range, and whether a run may change them.

A field whose value names an entry of a dict is a choice (config.py); FREE says that a run may change it while it goes
on, as it may all of FREE_SECTIONS.
"""

import dataclasses
from typing import Annotated

from diffjax.machine.parallel import SMALL
from diffjax.ranges import FREE, LOCAL, Count, NotNegative, Positive, Whole, at_least, closed, one_of

Seed = Annotated[int, closed(0, 2**32 - 1)]


@dataclasses.dataclass(frozen=True)
class Top:
  """Beside the sections."""

  seed: Seed = 0
  extensions: tuple[str, ...] = ()  # modules to import first, which add entries of their own
  deterministic: bool = False  # bit-exact on a GPU too, slower
  compile_cache: Annotated[bool, FREE] = True  # compiled functions are kept between runs


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained."""

  name: str = "diffusion"


@dataclasses.dataclass(frozen=True)
class Data:
  """What is read."""

  source: str = "digits"
  changed: Annotated[bool, FREE] = False  # go on with training data that are not those of before
  augment: str = "none"
  tokenizer: str = "words"  # of data with captions
  templates: tuple[str, ...] = ()  # captions of a class, "a {}" say, for data with labels alone


@dataclasses.dataclass(frozen=True)
class Space:
  """Where x0 lives."""

  name: str = "pixels"


@dataclasses.dataclass(frozen=True)
class Condition:
  """What the network is told."""

  names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How noise grows."""

  name: str = "linear"
  shift: float = 0.0  # added to the log-SNR


@dataclasses.dataclass(frozen=True)
class Objective:
  """What the network learns."""

  name: str = "regular"
  predict: str = "eps"
  times: str = "discrete"
  weight: str = "simple"
  input_scale: str = "none"
  time_input: str = "index"
  terms: tuple[str, ...] = ("l2", "kl")  # of an autoencoder's loss


@dataclasses.dataclass(frozen=True)
class Model:
  """The network."""

  name: str = "unet"
  encoder: str = "unet_encoder"  # of tasks that answer with a vector
  autoencoder: str = "kl"
  bottleneck: str = "gaussian"  # between encoder and decoder
  decoder: str = "mean"  # what its numbers say of an image
  discriminator: str = "patch"  # of an autoencoder's images
  text_encoder: str = "transformer"  # of the task "clip", as the next
  image_encoder: str = "vit"
  generator: str = "dense_generator"
  critic: str = "dense_critic"
  flow: str = "realnvp"
  autoregressive: str = "made"
  pixels: str = "softmax"  # what an autoregressive network says of one
  dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Train:
  """How it is trained."""

  steps: Count = 10_000
  batch_size: Count = 128  # global
  accumulate: Count = 1  # parts that a batch is computed in, one after the other
  start: Annotated[str, LOCAL] = (
    ""  # a run whose weights training begins with, "runs/x", "runs/x@1000" or "runs/x@1000:ema_0.999"
  )
  optimizer: str = "adam"
  learning_rate: Positive = 2e-4
  warmup: Whole = 0  # steps of linear warm-up
  decay: str = "constant"
  clip: NotNegative = 1.0  # of the gradient's global norm; 0 for none
  averages: tuple[str, ...] = ("ramp",)
  steps_per_call: Annotated[int, at_least(0), FREE] = (
    0  # in one compiled call; 0: 1 on a CPU, 10 on an accelerator
  )


@dataclasses.dataclass(frozen=True)
class Log:
  """What is reported."""

  every: Count = 100  # steps between lines of metrics
  sample_every: Whole = 0  # between grids of samples and held-out losses; 0 for at the end only
  samples: Annotated[int, closed(1, 4096)] = 64  # in a grid
  held_out: Whole = 256  # examples of the held-out loss; 0 for none
  wandb: str = ""  # a Weights & Biases project


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What is kept."""

  every: Count = 1000  # steps
  keep: Count = 2  # the newest so many
  keep_every: Whole = 0  # and every one at a multiple of so many steps; 0 for none


@dataclasses.dataclass(frozen=True)
class Sample:
  """How samples are drawn."""

  weights: str = "average"  # "average" (the first), the name of one, or "raw"
  checkpoint: Whole = 0  # the step whose checkpoint is taken; 0 for the newest
  sampler: str = "ancestral"
  grid: str = "leading"
  steps: Annotated[int, closed(1, 1_000_000)] = 1000
  final: str = "denoise"
  guides: tuple[str, ...] = ("clip",)
  temperature: Positive = 1.0  # of tasks that draw from a prior, its standard deviation; or of pixels
  count: Count = 64
  batch_size: Whole = 64  # global; rounded up to a multiple of the devices; 0 for what fits
  split: Annotated[str, one_of(("train", "test"))] = "train"  # whose rows samples ask for
  seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Eval:
  """How samples are judged."""

  metrics: tuple[str, ...] = ("classifier",)
  count: Whole = 0  # samples of each seed; 0 for as many, of the same classes, as the split has
  split: Annotated[str, one_of(("train", "test"))] = "train"  # whose rows samples ask for
  seeds: Count = 3
  checkpoints: str = "latest"  # or "all", or steps such as "1000,2000"
  probes: tuple[str, ...] = ()  # of the model itself
  likelihood: tuple[str, ...] = ()  # of held-out examples, in bits/dim
  bound: tuple[str, ...] = ()  # the same of an autoencoder
  likelihood_images: Annotated[int, at_least(2)] = 256
  shard: Count = 1024  # samples that are kept on disk together, so that a killed evaluation goes on


@dataclasses.dataclass(frozen=True)
class Parallel:
  """How it is spread over devices."""

  mode: str = "jit"
  data: Whole = 0  # devices that hold copies of the state; 0 for as many as are left
  fsdp: Count = 1  # devices that share the state and cut the batch
  model: Count = 1  # devices that share the state and cut the activations' channels
  sequence: bool = False  # whether a transformer's tokens are cut over these, in the place of channels
  small: Whole = SMALL  # arrays with fewer numbers are copied to every device
  check_every: Whole = 1000  # steps after which all copies of the state are compared; 0 for never


SECTIONS = {
  "": Top,
  "task": Task,
  "data": Data,
  "space": Space,
  "condition": Condition,
  "schedule": Schedule,
  "objective": Objective,
  "model": Model,
  "train": Train,
  "log": Log,
  "checkpoint": Checkpoint,
  "sample": Sample,
  "eval": Eval,
  "parallel": Parallel,
}
FREE_SECTIONS = ("log", "checkpoint", "sample", "eval", "parallel")
