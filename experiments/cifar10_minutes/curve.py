"""python -m experiments.cifar10_minutes.curve RESULTS.json OUT.png: the loss and the learning rate of a run."""

import json
import sys
from pathlib import Path

import numpy as np


def draw(results: Path, out: Path) -> None:
  """The mean loss of every call, and below it the rate that the clock gave."""
  import matplotlib

  matplotlib.use("agg")
  import matplotlib.pyplot as plt

  step, _, rate, loss, _ = np.array(json.loads(results.read_text())["losses"]).T
  figure, (top, bottom) = plt.subplots(
    2, sharex=True, figsize=(6, 3.6), height_ratios=(2, 1), layout="constrained"
  )
  top.semilogy(step, loss, lw=0.7, color="black")
  top.set_yticks([0.2, 0.3, 0.5, 1.0], ["0.2", "0.3", "0.5", "1"])
  top.minorticks_off()
  top.set_ylabel("loss")
  bottom.plot(step, 1e4 * rate, color="black")
  bottom.set(xlabel="step", ylabel="rate, 1e-4", ylim=(0, None))
  figure.savefig(out, dpi=90)


if __name__ == "__main__":
  draw(*map(Path, sys.argv[1:]))
