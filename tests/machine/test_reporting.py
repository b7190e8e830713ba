"""What is written is read back by other means: JSON, records of event files taken apart by hand, a pty."""

import fcntl
import inspect
import io
import json
import math
import os
import re
import struct
import sys
import termios
import threading
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from diffjax.machine import reporting
from diffjax.machine.console import Meter, hours, lines_of
from diffjax.types import ConfigError

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"


class Clock:
  now = 1000.0

  def __call__(self):
    return self.now


class Terminal:
  """A pty; `close` returns what was written to it."""

  def __init__(self, columns):
    self._master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    self.stream = os.fdopen(slave, "w")
    self._data = b""
    self._reader = threading.Thread(target=self._read)
    self._reader.start()

  def _read(self):
    try:
      while chunk := os.read(self._master, 4096):
        self._data += chunk
    except OSError:  # Linux's end of file on a pty
      pass

  def close(self):
    self.stream.close()
    self._reader.join()
    os.close(self._master)
    return self._data.decode()


def _screens(data, columns):
  """What a terminal shows before each \\r and at the end, as lists of lines; a live line may not fill it."""
  rows, column, shown = [""], 0, []
  for token in re.findall(r"\x1b\[K|\r|\n|[^\x00-\x1f]+|.", data, re.S):
    if token == "\x1b[K":
      assert column < columns  # beyond the last column the line would wrap and stay
      rows[-1] = rows[-1][:column]
    elif token == "\r":
      shown.append(list(rows))
      column = 0
    elif token == "\n":
      rows.append("")
    else:
      assert token.isprintable()
      rows[-1] = rows[-1][:column] + token + rows[-1][column + len(token) :]
      column += len(token)
  return [*shown, rows]


def _crc32c(data):
  """CRC-32C a bit at a time: RFC 3720, appendix B.4; polynomial 0x1EDC6F41, reflected."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def _masked(data):
  crc = _crc32c(data)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _events(workdir):
  """The events of a workdir in TensorBoard's order, each record's length and checksums verified."""
  events = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,), (length_crc,) = struct.unpack_from("<Q", data, at), struct.unpack_from("<I", data, at + 8)
      record = data[at + 12 : at + 12 + length]
      (crc,) = struct.unpack_from("<I", data, at + 12 + length)
      assert length_crc == _masked(data[at : at + 8]) and crc == _masked(record)
      events.append(Event.FromString(record))
      at += 16 + length
  return events


def _scalars(workdir):
  """(step, tag, value) as TensorBoard keeps them: a session's start purges what is at or past its step."""
  kept = []
  for event in _events(workdir):
    if event.session_log.status == SessionLog.START:
      kept = [row for row in kept if row[0] < event.step]
    kept += [(event.step, v.tag, v.simple_value) for v in event.summary.value if not v.HasField("image")]
  return kept


def _create(workdir, **options):
  return reporting.create(workdir, **{"stream": io.StringIO(), **options})


def test_the_checksum_is_the_published_one():
  assert _crc32c(b"123456789") == 0xE3069283
  assert _crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_metrics_are_json_and_there_at_once(tmp_path):
  with _create(tmp_path / "a" / "run") as reporter:
    path = tmp_path / "a" / "run" / "metrics.jsonl"
    reporter.metrics(10, {"loss": 0.1, "grad norm": np.float32(0.1)})
    assert path.read_text() == '{"step": 10, "loss": 0.1, "grad norm": 0.10000000149011612}\n'
    reporter.metrics(np.int64(20), {"loss": jnp.float32(2.5), "é": 1})
    assert path.read_bytes().isascii()
    assert json.loads(path.read_text().splitlines()[1]) == {"step": 20, "loss": 2.5, "é": 1.0}


def test_numbers_that_are_not_finite_are_null_in_json_and_keep_their_kind_in_tensorboard(tmp_path, caplog):
  with _create(tmp_path) as reporter:
    reporter.metrics(1, {"a": math.nan, "b": math.inf, "c": -np.inf, "d": 1e300})

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
  assert line == {"step": 1, "a": None, "b": None, "c": None, "d": 1e300}
  values = {tag: value for _, tag, value in _scalars(tmp_path)}
  assert math.isnan(values["a"]) and values["b"] == math.inf and values["c"] == -math.inf
  assert not caplog.records


def test_a_metric_cannot_hide_the_step(tmp_path):
  with _create(tmp_path) as reporter, pytest.raises(ConfigError, match="step"):
    reporter.metrics(1, {"step": 2.0})


def test_event_files_hold_the_same_numbers(tmp_path):
  with _create(tmp_path) as reporter:
    for step in (5, 10):
      reporter.metrics(step, {"train/loss": 1 / step, "lr": 1e-4})
  scalars = _scalars(tmp_path)
  assert [(step, tag) for step, tag, _ in scalars] == [(s, t) for s in (5, 10) for t in ("train/loss", "lr")]
  np.testing.assert_array_equal([v for *_, v in scalars], np.float32([0.2, 1e-4, 0.1, 1e-4]))


@pytest.mark.parametrize("channels", [1, 3])
def test_event_files_hold_pictures_exactly(tmp_path, channels):
  grid = np.random.default_rng(0).integers(0, 256, (6, 9, channels), np.uint8)
  with _create(tmp_path) as reporter:
    reporter.images(7, "samples", grid)
  (event,) = [event for event in _events(tmp_path) if event.summary.value]
  value = event.summary.value[0]
  assert (event.step, value.tag, value.image.height, value.image.width) == (7, "samples", 6, 9)
  read = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
  np.testing.assert_array_equal(read, np.broadcast_to(grid, (6, 9, 3)))


@pytest.mark.parametrize(
  "bad", [np.zeros((2, 2, 1)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8)]
)
def test_a_picture_must_be_bytes(tmp_path, bad):
  with _create(tmp_path) as reporter, pytest.raises(ConfigError, match="uint8"):
    reporter.images(1, "samples", bad)


def _run(workdir, steps, resumed=None):
  with _create(workdir) as reporter:
    if resumed is not None:
      reporter.resumed(resumed)
    for step in steps:
      reporter.metrics(step, {"loss": 1 / (step + 1)})
      reporter.metrics(step, {"eval": float(step)})


@pytest.mark.parametrize(
  "torn", [b"", b'{"step": 5, "lo', b'{"step": 5, "loss": 0.25}', b"\0\0\0\0\xff", b"5"]
)
def test_a_run_that_was_killed_and_resumed_leaves_what_an_unbroken_one_does(tmp_path, torn):
  _run(tmp_path / "whole", range(8))
  _run(tmp_path / "broken", range(5))
  path = tmp_path / "broken" / "metrics.jsonl"
  with path.open("ab") as file:
    file.write(torn)
  _run(tmp_path / "broken", range(4, 8), resumed=3)
  assert path.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
  assert _scalars(tmp_path / "broken") == _scalars(tmp_path / "whole")
  assert len(_scalars(tmp_path / "whole")) == 16


def test_a_run_that_begins_again_forgets_everything(tmp_path):
  _run(tmp_path, range(3))
  _run(tmp_path, [0, 1], resumed=-1)
  assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()] == [0, 0, 1, 1]
  assert [step for step, *_ in _scalars(tmp_path)] == [0, 0, 1, 1]


def test_resuming_within_a_process_and_a_second_keeps_every_event(tmp_path):
  with _create(tmp_path) as reporter:
    for step in (1, 2, 3):
      reporter.metrics(step, {"loss": float(step)})
    reporter.resumed(2)
    reporter.metrics(3, {"loss": 30.0})
  assert [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()] == [1.0, 2.0, 30.0]
  assert _scalars(tmp_path) == [(1, "loss", 1.0), (2, "loss", 2.0), (3, "loss", 30.0)]


def test_resuming_is_all_or_nothing(tmp_path, monkeypatch):
  _run(tmp_path, range(5))
  before = (tmp_path / "metrics.jsonl").read_bytes()

  def killed(self, target):
    raise KeyboardInterrupt

  monkeypatch.setattr(Path, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path, [], resumed=2)
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_resuming_a_run_with_no_metrics_writes_nothing(tmp_path):
  _run(tmp_path, [], resumed=7)
  assert not list(tmp_path.iterdir())


def test_lines_go_to_the_console_plain_and_to_the_log_with_the_time(tmp_path):
  stream = io.StringIO()
  with _create(tmp_path, stream=stream) as reporter:
    reporter.line("one\ntwo\t2\r\n\x1b[1;31mred\x1b[0m \x07é\udc80")
    reporter.line("")
  assert stream.getvalue() == "one\ntwo     2\nred é\udc80\n\n"
  log = (tmp_path / "log.txt").read_text(encoding="utf-8")
  assert re.fullmatch(rf"{STAMP}  one\n{STAMP}  two     2\n{STAMP}  red é\\udc80\n{STAMP}\n", log)


def test_no_control_character_survives():
  every = "".join(map(chr, range(0xA0)))
  lines = lines_of(every)
  assert all(line.isprintable() for line in lines)
  assert "".join(lines).lstrip(" ") == "".join(map(chr, range(33, 127)))
  assert lines_of("a\x1b[2K\x1b[?25lb\rc") == ["ab", "c"] and lines_of("") == [""]


def test_a_pipe_gets_plain_lines_at_the_interval(tmp_path):
  clock, (read, write) = Clock(), os.pipe()
  with (
    os.fdopen(write, "w") as stream,
    _create(tmp_path, stream=stream, clock=clock, log_every=10) as reporter,
  ):
    for step in range(1, 26):
      clock.now += 1.0
      reporter.progress(step, 25, {"loss": 0.123456})
  with os.fdopen(read) as pipe:
    lines = pipe.read().split("\n")
  assert lines == [
    "step 10/25  40%  loss 0.1235  1 images/s  ETA 0:00:15",
    "step 20/25  80%  loss 0.1235  1 images/s  ETA 0:00:05",
    "step 25/25  100%  loss 0.1235  1 images/s  ETA 0:00:00",
    "",
  ]
  log = (tmp_path / "log.txt").read_text().splitlines()
  assert [re.sub(f"^{STAMP}  ", "", line) for line in log] == lines[:-1]


def test_a_terminal_gets_one_live_line_and_the_log_plain_ones(tmp_path):
  clock, terminal = Clock(), Terminal(columns=40)
  with _create(tmp_path, stream=terminal.stream, clock=clock, log_every=10, batch_size=500) as reporter:
    for step in range(1, 31):
      clock.now += 0.5
      reporter.progress(step, 30, {"loss": 1.0, "a rather long name": 2.0} if step < 29 else {})
      if step == 15:
        reporter.line("saved")
  screens = _screens(terminal.close(), 40)
  assert screens[-1] == ["saved", "step 30/30  100%  1,000 images/s  ETA 0:00:00", ""]
  assert ["step 5/30  16%  loss 1  a rather long n"] in screens  # 39 characters
  assert ["saved", "step 29/30  96%  1,000 images/s  ETA 0:"] in screens
  assert all(len(rows) == 1 or rows[0] == "saved" for rows in screens)
  assert all(rows[2] == "" for rows in screens if len(rows) == 3)
  log = (tmp_path / "log.txt").read_text()
  assert all(line.isprintable() for line in log.split("\n"))
  assert re.findall(r"step (\d+)/|saved", log) == ["10", "", "20", "30"]


def test_a_terminal_is_redrawn_at_most_five_times_a_second(tmp_path):
  clock, terminal = Clock(), Terminal(columns=80)
  with _create(tmp_path, stream=terminal.stream, clock=clock) as reporter:
    for step in range(1, 1001):
      clock.now += 0.01
      reporter.progress(step, 100_000, {} if step % 50 else {"loss": 1.0})
  data = terminal.close()
  drawn = [int(step) for step in re.findall(r"step (\d+)/", data)]
  assert 48 <= len(drawn) <= 51 and drawn[-1] > 950  # ten seconds
  screens = _screens(data, 80)
  for (line,) in screens[2:-1]:
    assert re.fullmatch(r"step \d+/100000  0%(  loss 1)?(  100 images/s)?  ETA [\d:-]+", line)
  assert any("loss" in line for (line,) in screens) and screens[-1] == [""]


def test_an_error_finds_the_live_line_gone(tmp_path):
  terminal = Terminal(columns=80)
  with pytest.raises(FloatingPointError), _create(tmp_path, stream=terminal.stream) as reporter:
    reporter.progress(1, 10, {"loss": math.nan})
    raise FloatingPointError
  screens = _screens(terminal.close(), 80)
  assert ["step 1/10  10%  loss nan  ETA -:--:--"] in screens and screens[-1] == [""]


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "dumb")
  terminal = Terminal(columns=80)
  with _create(tmp_path, stream=terminal.stream, log_every=2) as reporter:
    for step in (1, 2, 3):
      reporter.progress(step, 8, {})
  assert re.fullmatch(r"step 2/8 [^\r\n\x1b]*\r\n", terminal.close())


def test_speed_and_time_left_leave_out_the_first_interval_and_pauses(tmp_path):
  clock, stream = Clock(), io.StringIO()
  with _create(tmp_path, stream=stream, clock=clock, log_every=10, batch_size=32) as reporter:
    reporter.progress(0, 100, {})
    clock.now += 50  # compiles
    reporter.progress(10, 100, {})
    clock.now += 20
    reporter.progress(20, 100, {})  # 10 steps in 20 s: 16 images/s; 80 steps of 2 s are left
    with reporter.paused():
      clock.now += 30
    clock.now += 10
    reporter.progress(30, 100, {})  # 20 steps in 30 s and a pause of 30 s; 70 steps of 3 s are left
  assert [line.split("%  ")[1] for line in stream.getvalue().splitlines()] == [
    "ETA -:--:--",
    "ETA -:--:--",
    "16 images/s  ETA 0:02:40",
    "21.3 images/s  ETA 0:03:30",
  ]


def test_at_the_end_no_time_is_left_even_where_no_speed_is_known(tmp_path):
  stream = io.StringIO()
  with _create(tmp_path, stream=stream, log_every=100) as reporter:
    reporter.progress(100, 100, {})
  assert stream.getvalue().splitlines() == ["step 100/100  100%  ETA 0:00:00"]


def test_a_resumed_run_counts_from_where_it_resumed(tmp_path):
  clock, stream = Clock(), io.StringIO()
  with _create(tmp_path, stream=stream, clock=clock, log_every=10, batch_size=100) as reporter:
    reporter.resumed(5000)
    for step, seconds in ((5000, 1), (5010, 99), (5020, 5)):
      clock.now += seconds
      reporter.progress(step, 10_000, {})
  assert stream.getvalue().splitlines()[-1] == "step 5020/10000  50%  200 images/s  ETA 0:41:30"  # 4980 / 2


def test_a_meter_has_nothing_to_say_before_its_second_interval():
  clock = Clock()
  meter = Meter(clock=clock)
  assert meter.rate() is None and meter.remaining(10) is None
  with meter.paused():
    clock.now += 5
  meter.update(1)
  assert meter.rate() is None and meter.remaining(10) is None
  with pytest.raises(KeyError), meter.paused():
    clock.now += 6
    raise KeyError
  clock.now += 4
  meter.update(3)
  assert meter.rate() == 0.5 and meter.remaining(10) == 35.0  # 2 steps in 4 s of 10 s


def test_a_meter_begins_anew_where_steps_do():
  clock = Clock()
  meter = Meter(clock=clock)
  for step, seconds in ((4, 1), (8, 1), (2, 50), (6, 2)):  # a second count of the same
    clock.now += seconds
    meter.update(step)
    assert step != 2 or meter.rate() is None
  assert meter.rate() == 2.0 and meter.remaining(10) == 2.0


@pytest.mark.parametrize(
  "seconds, text",
  [(0, "0:00:00"), (59.6, "0:01:00"), (3599.4, "0:59:59"), (3661, "1:01:01"), (360_000, "100:00:00")],
)
def test_hours(seconds, text):
  assert hours(seconds) == text


def test_the_other_processes_have_the_same_methods_and_write_nothing(tmp_path):
  public = {name for name in vars(reporting.Reporter) if not name.startswith("_")}
  assert public == {name for name in vars(reporting.Silent) if not name.startswith("_")}
  for name in public:
    ours, theirs = (inspect.signature(getattr(c, name)) for c in (reporting.Reporter, reporting.Silent))
    assert str(ours) == str(theirs)
  stream = io.StringIO()
  with reporting.create(tmp_path / "run", False, wandb_project="p", stream=stream) as silent:
    silent.resumed(3)
    silent.metrics(4, {"loss": 1.0})
    silent.images(4, "samples", np.zeros((2, 2, 1), np.uint8))
    silent.line("text")
    silent.progress(4, 4, {})
    with silent.paused():
      pass
  assert not stream.getvalue() and not list(tmp_path.iterdir())


def test_an_interval_of_no_steps_is_an_error(tmp_path):
  with pytest.raises(ConfigError, match="log_every is 0"):
    _create(tmp_path, log_every=0)


def test_weights_and_biases_is_asked_for_or_not_touched(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  _create(tmp_path).close()
  with pytest.raises(ConfigError, match=r"pip install -e .\[wandb\]"):
    _create(tmp_path, wandb_project="digits")


def test_weights_and_biases_gets_the_same_under_one_id(tmp_path, monkeypatch):
  calls = []

  class Run:
    def log(self, values, step):
      calls.append((values, step))

    def finish(self, exit_code):
      calls.append(("finish", exit_code))

  def init(**options):
    calls.append(options)
    return Run()

  fake = types.SimpleNamespace(init=init, Image=lambda grid: ("image", grid.shape))
  monkeypatch.setitem(sys.modules, "wandb", fake)
  with _create(tmp_path, wandb_project="digits", config={"seed": 1}) as reporter:
    reporter.metrics(3, {"loss": 0.5})
    reporter.images(3, "samples", np.zeros((2, 5, 1), np.uint8))
  with pytest.raises(KeyError), _create(tmp_path, wandb_project="digits"):
    raise KeyError
  first, *logged, second, end = calls
  assert first["project"] == "digits" and first["config"] == {"seed": 1} and first["dir"] == str(tmp_path)
  assert logged == [({"loss": 0.5}, 3), ({"samples": ("image", (2, 5, 1))}, 3), ("finish", 0)]
  assert second["id"] == first["id"] and len(first["id"]) == 16 and second["resume"] == "allow"
  assert end == ("finish", 1)


def test_a_table_lines_up():
  rows = [["DDPM", 1000, np.float32(0.123456)], ["DDIM, eta 0", 50, 12.0]]
  assert reporting.table(rows, ["sampler", "steps", "distance"]).split("\n") == [
    "sampler      steps  distance",
    "-----------  -----  --------",
    "DDPM          1000    0.1235",
    "DDIM, eta 0     50        12",
  ]
  assert reporting.table([], ["a", "bc"]) == "a  bc\n-  --"
  assert reporting.table([[1, "98 %"], ["all", ""]], ["n", "share"]).split("\n") == [
    "n    share",
    "---  -----",
    "1    98 %",
    "all",
  ]
  with pytest.raises(ValueError):
    reporting.table([[1, 2], [1]], ["a", "b"])
