"""python -m benchmarks.sampling: images/s of DDPM-1000, DDIM-50 and DPM-Solver++(2M)-20, ours and diffusers'.

Both sides call the same network, with the same random weights, equally often. Ours draws as --mode=sample
does: where a CPU is one device two halves of the batch at once. On a CPU the network is small and only the first
steps are walked; the columns images/s are then that time scaled to all steps, which is what a walk costs, since
every step is alike. --grow walks 1 to 1000 steps of DDPM to show that.
"""

import argparse

from diffjax.machine import huge_pages

SOLVERS = {"ancestral": ("leading", 1000), "ddim": ("leading", 50), "dpmpp_2m": ("trailing", 20)}
WALKED = (1, 10, 100, 1000)
MOST_ON_CPU = 20


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
    "--batch", type=int, default=0, help="default: 16 on a CPU, 2 with --grow, 256 on an accelerator"
  )
  parser.add_argument(
    "--channels", type=int, default=0, help="default: 64 on a CPU, 32 with --grow, 128 on an accelerator"
  )
  parser.add_argument("--size", type=int, default=32)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--grow", choices=("steps",))
  return parser.parse_args()


def main() -> None:
  """Measures, prints and keeps."""
  from benchmarks import flops, machine, ours, peer, report, turns

  args, about = arguments(), machine.description()
  rate = machine.rate(args.dtype)
  on_cpu = about["backend"] == "cpu"
  batch, channels = (256, 128) if not on_cpu else (2, 32) if args.grow else (16, 64)
  batch, channels = args.batch or batch, args.channels or channels
  once = flops.sampling_step(ours.cifar10(1, channels, args.size, args.dtype), args.size, batch)

  def measured(sampler, walked):
    grid, steps = SOLVERS[sampler]
    config = ours.cifar10(1, channels, args.size, args.dtype)
    config.sample.update({"sampler": sampler, "grid": grid, "steps": steps, "batch_size": batch})
    half, net = args.dtype == "bfloat16", peer.unet(config.model.unet, args.size).eval()
    candidates = {
      "ours": ours.sampling(config, args.size, batch, walked, peer.weights(net)),
      "peer": peer.sampling(net, sampler, steps, walked, batch, not on_cpu, half),
    }
    times = turns.in_turn(candidates, args.rounds, warm=1)
    row = report.row(
      times, once * walked, rate, solver=sampler, steps=steps, walked=walked, batch=batch, channels=channels
    )
    scale = steps / walked
    return row | {f"{name} images/s": batch / (times[name].median * scale) for name in candidates}

  if args.grow:
    settings = [("ancestral", walked) for walked in WALKED]
  else:
    most = MOST_ON_CPU if on_cpu else 1000
    settings = [(sampler, min(steps, most)) for sampler, (_, steps) in SOLVERS.items()]
  rows = [measured(*each) for each in settings]
  name = f"sampling-{about['backend']}-{args.dtype}" + (f"-grow-{args.grow}" if args.grow else "")
  report.write(name, about, rows, matrix_product_flop_per_s=rate, flop_source="jaxpr: forward")


if __name__ == "__main__":
  huge_pages.ask()
  main()
