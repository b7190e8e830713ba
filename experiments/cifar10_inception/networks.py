"""Two feature networks with the same weights: ours, and pytorch-fid's own code in PyTorch.

NETWORKS are functions (weights file or None, batch size) -> extract, and extract maps uint8 images
[N, 32, 32, 3] to pool3 features float32 [N, 2048]. DISTANCES are each package's own Fréchet distance.
"""

from collections.abc import Callable
from unittest import mock

import numpy as np

from diffjax.metrics import inception, inception_weights
from diffjax.metrics.frechet import frechet_distance
from experiments.cifar10_inception.torchvision_import import import_torchvision

Extract = Callable[[np.ndarray], np.ndarray]


def diffjax(path: str | None, batch_size: int) -> Extract:
  """The library's."""
  extract = inception.extractor(inception_weights.load(path).variables, batch_size=batch_size)
  return lambda images: extract(images).pool3


def pytorch_fid(path: str | None, batch_size: int) -> Extract:
  """pytorch-fid's InceptionV3 as it stands, given the file's tensors where it would download its own."""
  import torch

  import_torchvision()
  from pytorch_fid import inception as peer

  tensors = inception_weights.read(inception_weights.locate(path)[0])
  state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
  state.setdefault("fc.weight", torch.zeros(1008, 2048))  # above pool3, and not used
  state.setdefault("fc.bias", torch.zeros(1008))
  with mock.patch.object(peer, "load_state_dict_from_url", lambda *_, **__: state):
    network = peer.InceptionV3().eval()

  def extract(images):
    parts = []
    for start in range(0, len(images), batch_size):
      batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size].transpose(0, 3, 1, 2)))
      with torch.no_grad():
        parts.append(network(batch.float() / 255)[0].squeeze(3).squeeze(2).numpy())
    return np.concatenate(parts)

  return extract


def peer_frechet(p, q) -> float:
  """pytorch-fid's own distance of two pairs (mean [D], covariance [D, D])."""
  import_torchvision()
  from pytorch_fid.fid_score import calculate_frechet_distance

  return float(calculate_frechet_distance(*p, *q))


NETWORKS = {"diffjax": diffjax, "pytorch_fid": pytorch_fid}
DISTANCES = {"diffjax": frechet_distance, "pytorch_fid": peer_frechet}
