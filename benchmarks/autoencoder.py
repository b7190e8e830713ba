"""python -m benchmarks.autoencoder: images/s of Stable Diffusion's autoencoder, ours and diffusers' in turn.

Both have diffusers' random weights, in float32 and in inference alone; before the clock runs their answers are
compared. --channels=32 and --size=64 make a smaller one.
"""

import argparse

from diffjax.machine import huge_pages


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--size", type=int, default=64, help="of the pictures, in pixels")
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--rounds", type=int, default=5)
  return parser.parse_args()


def main() -> None:
  """Measures, prints and keeps."""
  import jax
  import numpy as np
  import torch
  from diffusers import AutoencoderKL

  from benchmarks import flops, machine, report, turns
  from diffjax.interop.configs import autoencoder_kl
  from diffjax.interop.names import NAMES
  from diffjax.interop.params import to_params

  args, about = arguments(), machine.description()
  widths = tuple(args.channels * m for m in (1, 2, 4, 4))
  kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
  theirs = AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, **kinds).eval()
  theirs = theirs.to(memory_format=torch.channels_last)
  net = autoencoder_kl(theirs.config)
  images = np.random.default_rng(0).uniform(-1, 1, (args.batch, args.size, args.size, 3)).astype(np.float32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
  tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
  params = jax.device_put(to_params(tensors, shapes, NAMES["autoencoder_kl"]))
  apply = lambda params, x, name: net.apply({"params": params}, x, method=name)
  methods = {
    "encode": jax.jit(lambda params, x: apply(params, x, "encode").mean),
    "decode": jax.jit(lambda params, z: apply(params, z, "decode")),
  }
  turned = lambda x: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))).to(
    memory_format=torch.channels_last
  )
  latents = np.asarray(methods["encode"](params, images))
  rows = []
  with torch.inference_mode():
    peer = {
      "encode": lambda x: theirs.encode(x).latent_dist.mean,
      "decode": lambda z: theirs.decode(z).sample,
    }
    rate = machine.rate()
    for name, x in (("encode", images), ("decode", latents)):
      output, peer_output = np.asarray(methods[name](params, x)), peer[name](turned(x)).numpy()
      error = np.abs(output - np.moveaxis(peer_output, 1, -1)).max() / np.abs(peer_output).max()
      if error > 1e-4:
        raise SystemExit(
          f"{name}: the answers differ by {error:.1e} of the largest; these are not the same networks."
        )
      pixels = turned(x)
      candidates = {
        "ours": lambda name=name, x=x: jax.block_until_ready(methods[name](params, x)),
        "peer": lambda name=name, x=pixels: peer[name](x),
      }
      times = turns.in_turn(candidates, args.rounds)
      count = flops.count(methods[name], params, x)
      row = report.row(times, count, rate, what=name, size=args.size, batch=args.batch)
      rows.append(row | {f"{who} images/s": args.batch / each.median for who, each in times.items()})
  name = f"autoencoder-{about['backend']}"
  report.write(name, about, rows, matrix_product_flop_per_s=rate, flop_source="jaxpr: forward")


if __name__ == "__main__":
  huge_pages.ask()
  main()
