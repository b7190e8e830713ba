"""What can be trained, by name; a file and an entry each."""

from collections.abc import Callable

from diffjax.ranges import checked
from diffjax.tasks.autoencoder import autoencoder
from diffjax.tasks.autoregressive import autoregressive
from diffjax.tasks.classifier import classifier
from diffjax.tasks.clip import clip
from diffjax.tasks.diffusion import diffusion
from diffjax.tasks.flow import flow
from diffjax.tasks.gan import gan
from diffjax.tasks.mixture import mixture
from diffjax.tasks.task import Task
from diffjax.tasks.texture import texture

TASKS: dict[str, Callable[..., Task]] = checked(
  {
    "diffusion": diffusion,
    "autoencoder": autoencoder,
    "classifier": classifier,
    "clip": clip,
    "gan": gan,
    "flow": flow,
    "autoregressive": autoregressive,
    "mixture": mixture,
    "texture": texture,
  }
)
