"""A process of the peer's alone, as its users start it: neither jax nor diffjax is imported.

What peer.training_step reads of a config is told as JSON.
"""

from ml_collections import ConfigDict

SCRIPT = """
import json
import numpy as np
from ml_collections import ConfigDict
from benchmarks import peer
config = ConfigDict(json.loads({told!r}))
pixels = np.random.default_rng(0).integers(0, 256, {shape}, np.uint8)
step = peer.training_step(config, pixels, compiled=peer.PLACE == "cuda", half={half})
"""


def script(config: ConfigDict, shape: tuple[int, int, int, int], half: bool = False) -> str:
  """Python that makes `step`, a function that trains on the same random images uint8 `shape`, [B, H, W, C].

  Args:
    config: of the network, the optimizer and the schedule.
    shape: of the images.
    half: computes in bfloat16.
  """
  parts = {"model": {"unet": config.model.unet}, "train": config.train, "schedule": config.schedule}
  return SCRIPT.format(told=ConfigDict(parts).to_json(), shape=tuple(shape), half=half)
