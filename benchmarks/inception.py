"""python -m benchmarks.inception: images/s of the FID network's features, ours and pytorch-fid's in turn.

Both have the published weights (found as --mode=eval finds them) and take uint8 images of CIFAR-10's size; the
operations are counted from our jaxpr.
"""

import argparse

from diffjax.machine import huge_pages


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, default=0, help="default: 16 on a CPU, 256 on an accelerator")
  parser.add_argument("--weights", default=None, help="the file of pytorch-fid's weights")
  parser.add_argument("--rounds", type=int, default=5)
  return parser.parse_args()


def main() -> None:
  """Measures, prints and keeps."""
  from benchmarks import flops, machine, ours, report, turns
  from diffjax.metrics import inception, inception_weights
  from experiments.cifar10_inception.networks import NETWORKS

  args, about = arguments(), machine.description()
  batch = args.batch or (16 if about["backend"] == "cpu" else 256)
  pixels = ours.images(batch, 32)
  count = flops.count(inception.features, inception_weights.load(args.weights).variables, pixels)
  makers = {"ours": NETWORKS["diffjax"], "peer": NETWORKS["pytorch_fid"]}
  candidates = {name: make(args.weights, batch) for name, make in makers.items()}
  run = {name: lambda extract=extract: extract(pixels) for name, extract in candidates.items()}
  times, rate = turns.in_turn(run, args.rounds), machine.rate()
  row = report.row(times, count, rate, batch=batch)
  row |= {f"{name} images/s": batch / each.median for name, each in times.items()}
  name = f"inception-{about['backend']}"
  report.write(name, about, [row], matrix_product_flop_per_s=rate, flop_source="jaxpr: forward")


if __name__ == "__main__":
  huge_pages.ask()
  main()
