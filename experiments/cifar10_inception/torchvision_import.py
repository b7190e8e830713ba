"""torchvision without its compiled operators, for packages that import it and use none of them."""

_KEPT = []  # an operator lives as long as its library


def import_torchvision() -> None:
  """Imports torchvision even where its compiled operators, which are not used here, do not fit PyTorch's."""
  try:
    import torchvision  # noqa: F401
  except RuntimeError:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _KEPT.append(library)
    for name in ("nms", "qnms"):
      library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
