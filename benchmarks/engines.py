"""python -m benchmarks.engines: one call of the network, ours beside what a PyTorch user has on this processor.

The same weights everywhere: eager PyTorch, autocast to bfloat16, torch.compile, and an export of the peer's network
on ONNX Runtime and OpenVINO, which choose bfloat16 themselves where it is asked for. Answers are compared before
anything is timed: in float32 they differ by 1e-4 of the largest at most, in bfloat16 by 0.05. A candidate that cannot
be made is named and left out.

    pip install -e '.[parity,engines]'
"""

import argparse
import io
import sys
from collections.abc import Callable

import numpy as np

from diffjax.machine import huge_pages

TOLERANCE = {"f32": 1e-4, "bf16": 0.05}
CANDIDATES = ("ours", "peer", "autocast", "compile", "onnxruntime", "openvino", "openvino_bf16")


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, nargs="+", default=(1, 8))
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--size", type=int, default=32)
  parser.add_argument("--rounds", type=int, default=6)
  parser.add_argument(
    "--only", nargs="+", choices=CANDIDATES, default=CANDIDATES, help="of them, ours among these"
  )
  return parser.parse_args()


def ours_call(config, weights, x: np.ndarray, t: np.ndarray) -> Callable[[], np.ndarray]:
  """Our network's answer, [B, 3, H, W]."""
  from benchmarks import ours

  apply, inputs = ours.network_call(config, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), t, weights)
  return lambda: np.asarray(apply(*inputs)).transpose(0, 3, 1, 2)


def torch_call(net, x, t, half: bool = False) -> Callable[[], np.ndarray]:
  """PyTorch's, channels last."""
  import torch

  images, times = torch.from_numpy(x).to(memory_format=torch.channels_last), torch.from_numpy(t)

  @torch.inference_mode()
  def call():
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
      return net(images, times, return_dict=False)[0].float().numpy()

  return call


def _answer(net):
  import torch

  class Answer(torch.nn.Module):
    """The tensor alone, as an export wants it."""

    def __init__(self):
      """Holds the network, whose weights become constants."""
      super().__init__()
      self.net = net

    def forward(self, x, t):
      """(x, t) -> the network's answer."""
      return self.net(x, t, return_dict=False)[0]

  return Answer().eval().requires_grad_(False)


def onnxruntime_call(net, x, t) -> Callable[[], np.ndarray]:
  """ONNX Runtime's, of torch's own export."""
  import onnxruntime
  import torch

  file = io.BytesIO()
  torch.onnx.export(
    _answer(net), (torch.from_numpy(x), torch.from_numpy(t)), file, input_names=["x", "t"], dynamo=False
  )
  options = onnxruntime.SessionOptions()
  # Whoever comes next would wait for threads that spin.
  options.add_session_config_entry("session.intra_op.allow_spinning", "0")
  session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
  return lambda: session.run(None, {"x": x, "t": t})[0]


def openvino_call(net, x, t, precision: str) -> Callable[[], np.ndarray]:
  """OpenVINO's, of its own reading of the torch module."""
  import openvino
  import torch

  graph = openvino.convert_model(_answer(net), example_input=(torch.from_numpy(x), torch.from_numpy(t)))
  hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
  compiled = openvino.compile_model(graph, "CPU", hints)
  return lambda: compiled([x, t])[0]


def makers(config, net, x, t) -> dict[str, Callable[[], Callable]]:
  """What makes each candidate's call, by name."""
  from benchmarks import peer

  return {
    "ours": lambda: ours_call(config, peer.weights(net), x, t),
    "peer": lambda: torch_call(net, x, t),
    "autocast": lambda: torch_call(net, x, t, half=True),
    "compile": lambda: torch_call(peer.optimized(net, "default"), x, t),
    "onnxruntime": lambda: onnxruntime_call(net, x, t),
    "openvino": lambda: openvino_call(net, x, t, "f32"),
    "openvino_bf16": lambda: openvino_call(net, x, t, "bf16"),
  }


def main() -> None:
  """Makes all, compares their answers, measures in turn, prints and keeps."""
  from benchmarks import flops, machine, ours, peer, report, turns

  args, about = arguments(), machine.description()
  rate, rows = machine.rate("float32"), []
  for batch in args.batch:
    config = ours.cifar10(1, args.channels, args.size)
    net, random = peer.unet(config.model.unet, args.size).eval(), np.random.default_rng(0)
    x = random.standard_normal((batch, 3, args.size, args.size)).astype(np.float32)
    t = random.uniform(0, 1000, batch).astype(np.float32)
    calls = makers(config, net, x, t)
    truth, candidates = torch_call(net, x, t)(), {}
    for name in (name for name in CANDIDATES if name in args.only):
      try:
        call = calls[name]()
        error = np.abs(call() - truth).max() / np.abs(truth).max()
      except Exception as problem:  # whatever a compiler of another project says
        print(
          f"{name} is left out: {type(problem).__name__}: {str(problem)[:200]}", file=sys.stderr, flush=True
        )
        continue
      kind = "bf16" if name in ("autocast", "openvino_bf16") else "f32"
      assert error < TOLERANCE[kind], f"{name} answers otherwise, by {error:.2g} of the largest"
      candidates[name] = call
    times = turns.in_turn(candidates, args.rounds, before=1)
    once = flops.sampling_step(config, args.size, batch)
    rows.append(report.row(times, once, rate, batch=batch, channels=args.channels))
  report.write(f"engines-{about['backend']}", about, rows, matrix_product_flop_per_s=rate)


if __name__ == "__main__":
  huge_pages.ask()
  main()
