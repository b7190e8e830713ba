"""CIFAR-10 as in the paper: Ho et al. 2020, appendix B, unconditional, L_simple.

    python main.py --config=configs/cifar10_ddpm.py --workdir=runs/cifar10_ddpm
    python main.py --workdir=runs/cifar10_ddpm --mode=eval

Expected: FID 3.17 (50,000 samples of the moving average against the 50,000 training images; others reach 3.12
to 3.25 with this recipe, and about 12 with the raw weights).
Cost: 800,000 steps of 128 images; 4.46 TFLOP a step. The paper's TPU v3-8 did 21 steps/s: 10.6 hours.
"""

from diffjax import config


def get_config():
  """The paper's recipe: every number is Ho et al.'s."""
  c = config.base()
  c.data.source = "tfds"
  c.data.tfds.name = "cifar10"
  c.data.augment = "flip"
  c.schedule.name = "linear"
  c.schedule.linear.steps = 1000
  c.schedule.linear.beta_start = 1e-4
  c.schedule.linear.beta_end = 0.02
  c.objective.predict = "eps"
  c.objective.times = "discrete"
  c.objective.weight = "simple"
  c.objective.time_input = "index"
  c.model.name = "unet"
  c.model.unet.channels = 128
  c.model.unet.multipliers = (1, 2, 2, 2)
  c.model.unet.blocks = 2
  c.model.unet.attention = (16,)
  c.model.unet.dropout = 0.1
  c.train.steps = 800_000
  c.train.batch_size = 128
  c.train.optimizer = "adam"
  c.train.learning_rate = 2e-4
  c.train.warmup = 5000
  c.train.clip = 1.0
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.9999,)
  c.log.sample_every = 20_000
  c.checkpoint.every = 5000
  c.checkpoint.keep_every = 100_000
  c.sample.sampler = "ancestral"
  c.sample.ancestral.variance = "fixed_large"
  c.sample.grid = "leading"
  c.sample.steps = 1000
  c.sample.batch_size = 256
  c.eval.metrics = ("inception",)
  c.eval.count = 50_000
  c.eval.seeds = 1
  return c
