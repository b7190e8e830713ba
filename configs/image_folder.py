r"""A folder of your own images, cropped to squares of 64 pixels; sub-folders are classes.

    python main.py --config=configs/image_folder.py --workdir=runs/photos \
      --config.data.image_folder.path=PHOTOS

Every twentieth image or so (config.data.image_folder.test_fraction) is held out. With class sub-folders add
--config.condition.names="('label',)" --config.condition.label.dropout=0.1.
Expected: recognisable textures after 20,000 steps, whatever the images; watch runs/photos/samples.
Cost: 17 TFLOP a step of 64 images, a day on one accelerator for 200,000 steps.
"""

from diffjax import config


def get_config():
  """A U-Net of four levels on 64x64 pixels, cosine schedule, v-prediction, DDIM."""
  c = config.base()
  c.data.source = "image_folder"
  c.data.image_folder.size = 64
  c.data.augment = "flip"
  c.schedule.name = "cosine"
  c.objective.predict = "v"
  c.objective.weight = "min_snr"
  c.model.unet.channels = 128
  c.model.unet.multipliers = (1, 2, 2, 2)
  c.model.unet.attention = (16, 8)
  c.model.dtype = "bfloat16"
  c.train.steps = 200_000
  c.train.batch_size = 64
  c.train.warmup = 2000
  c.log.sample_every = 5000
  c.checkpoint.every = 2500
  c.sample.sampler = "ddim"
  c.sample.grid = "trailing"
  c.sample.steps = 50
  c.eval.metrics = ()
  return c
