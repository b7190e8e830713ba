"""A variational autoencoder of MNIST (Kingma & Welling 2014), dense, with Bernoulli pixels.

    python main.py --config=configs/mnist_vae.py --workdir=runs/mnist_vae
    python main.py --workdir=runs/mnist_vae --mode=eval

The digits are an npz with train_image and test_image, uint8 [N, 28, 28], and train_label and test_label,
~/.cache/diffjax/mnist.npz or where --config.data.arrays.path and test_path say. Their grey values are taken as shares
of ink, so that the nats are not those of binary digits.

Cost: a minute or two on 2 CPU cores.
"""

from configs import digits_vae


def get_config():
  """Hidden layers of 500, as in the paper, two of them, and 20 latent numbers."""
  c = digits_vae.get_config()
  c.data.source = "arrays"
  c.data.arrays.path = c.data.arrays.test_path = "~/.cache/diffjax/mnist.npz"
  c.data.arrays.image = "{split}_image"
  c.data.arrays.label = "{split}_label"
  c.condition.names = ()
  c.model.decoder = "bernoulli"
  c.model.vae.hidden = (500, 500)
  c.model.vae.latent = 20
  c.train.steps = 6000
  c.log.sample_every = 2000
  c.checkpoint.every = 2000
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.999,)
  return c
