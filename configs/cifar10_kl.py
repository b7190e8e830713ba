"""An autoencoder of CIFAR-10: 32x32 pixels to 8x8 latents of 4 channels, with a discriminator from step 5,000 on.

    python main.py --config=configs/cifar10_kl.py --workdir=runs/cifar10_kl
    python main.py --workdir=runs/cifar10_kl --mode=eval

Where LPIPS's weights are at hand (diffjax/metrics/lpips.py says where they are looked for) it is better to the eye with
--config.objective.terms="('l1','lpips','kl','adversarial')" and
--config.objective.lpips.weight=3072, which is 1 for each number of an image. configs/cifar10_latent.py is diffusion on
its latents.

Not trained here: it is for an accelerator, 5.1 million parameters, 0.7 of the discriminator, and 50,000 steps of 64.
"""

from diffjax import config


def get_config():
  """Rombach et al. 2022's losses and their weights, on a network of half their width and three levels."""
  c = config.base()
  c.task.name = "autoencoder"
  c.data.source = "tfds"
  c.data.tfds.name = "cifar10"
  c.data.augment = "flip"
  c.model.kl.channels = 64
  c.model.kl.multipliers = (1, 2, 2)
  c.objective.terms = ("l1", "kl", "adversarial")
  c.objective.kl.weight = 1e-6
  c.objective.adversarial.weight = 0.5
  c.objective.adversarial.start = 5000
  c.model.patch.layers = 2  # of 32x32 pixels
  c.train.steps = 50_000
  c.train.batch_size = 64
  c.train.learning_rate = 2e-4
  c.train.adam.b1 = 0.5
  c.train.adam.b2 = 0.9
  c.train.clip = 0.0  # a norm over both players would couple them
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.999,)
  c.log.sample_every = 5000
  c.checkpoint.every = 5000
  c.eval.metrics = ()
  c.eval.probes = ("reconstruction",)
  return c
