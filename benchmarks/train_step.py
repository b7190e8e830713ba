"""python -m benchmarks.train_step: one training step of the CIFAR-10 U-Net, ours and diffusers' in turn.

A step is flip, noise, forward, backward, clipping, Adam and the moving average, on uint8 images in memory. The
ratio is our time over theirs, the median over the rounds; cpu_ratio the same of processor time, which other work
on the machine disturbs less. --grow=batch, channels, size or devices shows how the cost grows.
"""

import argparse
import os
import subprocess
import sys

from diffjax.machine import huge_pages

GROWTH = {
  "batch": {"cpu": (1, 8, 64, 512), "gpu": (1, 8, 32, 64, 128, 256, 512)},
  "channels": {"cpu": (64, 128, 256), "gpu": (64, 128, 192, 256)},
  "size": {"cpu": (16, 32, 64), "gpu": (16, 32, 64)},
}
DEVICES = (1, 2, 4, 8)
ALSO = {"autocast": {"half": True}, "compile": {"compiled": "default"}}


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
    "--batch", type=int, default=0, help="default: 8 and 16 on a CPU, 128 on an accelerator"
  )
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--size", type=int, default=32)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--steps_per_call", type=int, default=1, help="of ours")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--grow", choices=(*GROWTH, "devices"), help="vary one thing over its range")
  parser.add_argument(
    "--also", nargs="*", default=[], choices=tuple(ALSO), help="further ways to run the peer's step, on a CPU"
  )
  parser.add_argument("--no_peer", action="store_true", help="time ours alone")
  parser.add_argument("--fake_devices", type=int, default=0, help="split the CPU into so many devices")
  return parser.parse_args()


def measured(args: argparse.Namespace, batch: int, channels: int, size: int, rate: float) -> dict:
  """One row."""
  from benchmarks import flops, ours, report, turns

  config, pixels = ours.cifar10(batch, channels, size, args.dtype), ours.images(batch, size)
  count = flops.training_step(config, size)
  candidates = {"ours": ours.training_step(config, pixels, args.steps_per_call)}
  if not args.no_peer:
    from benchmarks import peer

    on_gpu = peer.PLACE == "cuda"
    theirs = peer.training_step(config, pixels, compiled=on_gpu, half=args.dtype == "bfloat16")
    candidates["peer"] = lambda: [theirs() for _ in range(args.steps_per_call)]
    for name in args.also:
      candidates[name] = peer.training_step(config, pixels, **ALSO[name])
  times = turns.in_turn(candidates, args.rounds, before=1)
  settings = {"batch": batch, "channels": channels, "size": size, "dtype": args.dtype}
  if args.fake_devices:
    settings["devices"] = args.fake_devices
  return report.row(times, count * args.steps_per_call, rate, **settings)


def rows(args: argparse.Namespace, platform: str, rate: float) -> list[dict]:
  """One or several, as the command line asks."""
  plain = {"batch": args.batch, "channels": args.channels, "size": args.size}
  if args.grow:
    settings = [
      plain | {"batch": args.batch or 8, args.grow: n}
      for n in GROWTH[args.grow]["cpu" if platform == "cpu" else "gpu"]
    ]
  elif args.batch:
    settings = [plain]
  else:
    settings = [plain | {"batch": n} for n in ({"cpu": (8, 16)}.get(platform, (128,)))]
  table = []
  for each in settings:
    table.append(measured(args, **each, rate=rate))
    print(f"{each}: ratio {table[-1].get('ratio')}, cpu_ratio {table[-1].get('cpu_ratio')}", flush=True)
  return table


def on_fake_devices(args: argparse.Namespace) -> None:
  """The same command in a new process for each number of devices, ours alone, on a small network."""
  plain = [
    f"--rounds={args.rounds}",
    f"--batch={args.batch or 8}",
    "--channels=32",
    "--size=16",
    "--no_peer",
  ]
  for count in DEVICES:
    subprocess.run(
      [sys.executable, "-m", "benchmarks.train_step", *plain, f"--fake_devices={count}"], check=True
    )


def main() -> None:
  """Measures, prints and keeps."""
  args = arguments()
  if args.grow == "devices":
    return on_fake_devices(args)
  if args.fake_devices:  # before jax is imported
    os.environ["NPROC"] = str(max(32, 2 * args.fake_devices))
    flags = os.environ.get("XLA_FLAGS", ""), f"--xla_force_host_platform_device_count={args.fake_devices}"
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags).strip()}
  from benchmarks import machine, report

  about = machine.description()
  rate = machine.rate(args.dtype)
  table = rows(args, about["backend"], rate)
  name = f"train_step-{about['backend']}-{args.dtype}"
  name += f"-grow-{args.grow}" if args.grow else ""
  name += f"-{args.fake_devices}-devices" if args.fake_devices else ""
  report.write(name, about, table, matrix_product_flop_per_s=rate, flop_source="jaxpr: forward + backward")


if __name__ == "__main__":
  huge_pages.ask()
  main()
