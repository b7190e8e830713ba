"""Stable Diffusion's autoencoder (Rombach et al. 2022, table 8 and their code's kl-f8): 256x256 pixels to 32x32x4.

    python main.py --config=configs/sd_autoencoder.py --workdir=runs/sd_autoencoder \
      --config.data.image_folder.path=FOLDER

The network has 83,653,863 parameters, tensor for tensor the published ones (diffjax/interop/ reads them); the
discriminator 2,765,633; LPIPS's weights are looked for as diffjax/metrics/lpips.py says.

Cost, reckoned and not measured: 0.88 TFLOP a picture forward by the jaxpr, four times that with the backward pass and
its recomputation, and some 0.3 for LPIPS and the discriminator; with the batch of 12 times 8 below, 246,000 steps,
about as many as the published run had, are 9e19 FLOP. On 8 H100 at 40 % of bfloat16's peak that is near 8 hours of
computing, and on a v5e slice of 256 at the same share an hour and a quarter; reading the pictures may take longer. The
adaptive weight hangs on the whole batch, so it is one part and one program (parallel.mode 'jit').
"""

from diffjax import config


def get_config():
  """The published weights of the losses: 1e-6 KL, LPIPS, a discriminator from step 50,001 with its adaptive weight."""
  c = config.base()
  c.task.name = "autoencoder"
  c.data.source = "image_folder"
  c.data.image_folder.size = 256
  c.data.augment = "flip"
  c.model.kl.groups = 32
  c.model.dtype = "bfloat16"
  c.model.kl.remat = True
  c.objective.terms = ("l1", "lpips", "kl", "adversarial")
  c.objective.lpips.weight = 3.0 * 256**2  # the published loss adds it to every number's L1, and sums these
  c.objective.kl.weight = 1e-6
  c.objective.adversarial.weight = 0.5
  c.objective.adversarial.start = 50_001
  c.train.steps = 246_000
  c.train.batch_size = 96
  c.train.learning_rate = 4.5e-6 * 96
  c.train.adam.b1 = 0.5
  c.train.adam.b2 = 0.9
  c.train.clip = 0.0  # a norm over both players would couple them
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.9999,)
  c.log.sample_every = 10_000
  c.log.samples = 16
  c.checkpoint.every = 5000
  c.sample.batch_size = 16
  c.eval.metrics = ()
  c.eval.probes = ("reconstruction",)
  return c
