"""CIFAR-10 by EDM's recipe: Karras et al. 2022, table 1 and training configuration F, the network DDPM++.

    python main.py --config=configs/cifar10_edm.py --workdir=runs/cifar10_edm
    python main.py --workdir=runs/cifar10_edm --mode=eval

Class-conditional with --config.condition.names="('label',)"; without its augmentation with
--config.data.augment=flip. Expected: the paper's FID is 1.97, and 1.79 class-conditional, each the lowest of three sets
of 50,000 samples against the 50,000 training images; it has not been measured here. experiments/cifar10_edm/ says what
differs from the paper's code.
Cost: 390,625 steps of 512 images, 61.7 TFLOP a step.
"""

from configs import cifar10_ddpm


def get_config():
  """What differs from DDPM's recipe: every number is Karras et al.'s."""
  c = cifar10_ddpm.get_config()
  c.data.augment = "nonleaking"
  c.data.nonleaking.probability = 0.12
  c.schedule.name = "edm"
  c.schedule.edm.sigma_min = 0.002
  c.schedule.edm.sigma_max = 80.0
  c.objective.predict = "edm"
  c.space.pixels.std = 0.5
  c.objective.times = "log_normal"
  c.objective.log_normal.mean = -1.2
  c.objective.log_normal.std = 1.2
  c.objective.weight = "edm"
  c.objective.input_scale = "unit"
  c.objective.time_input = "log_sigma"
  c.model.unet.multipliers = (2, 2, 2)
  c.model.unet.blocks = 4
  c.model.unet.dropout = 0.13
  c.model.unet.resample = "block"
  c.model.unet.skip_scale = 0.5**0.5
  c.model.unet.attend_last = True
  c.train.steps = 390_625  # 200 million images
  c.train.batch_size = 512
  c.train.learning_rate = 1e-3
  c.train.warmup = 19_531  # 10 million images
  c.train.clip = 0.0
  c.train.averages = ("half_life",)
  c.train.half_life.rates = (0.99929,)
  c.train.half_life.share = 0.05
  c.log.sample_every = 5000
  c.checkpoint.keep_every = 25_000
  c.sample.sampler = "heun"
  c.sample.grid = "karras"
  c.sample.karras.rho = 7.0
  c.sample.steps = 18  # 35 evaluations
  c.sample.guides = ()
  return c
