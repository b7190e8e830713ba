"""The local pool and `launch --on=local`, a stub in main.py's place."""

import io
import json
import os
import re
import signal
from pathlib import Path

import pytest
from fabricated import STUB, evaluate, jobs_of, report, small, template, train

from experiments import launch
from experiments.tools import board, jobs, pool
from experiments.tools.sweeps import product


@pytest.fixture
def stub(monkeypatch):
  """Sets what the stub does: run -> behaviour."""
  return lambda **behaviours: monkeypatch.setenv("STUB", json.dumps(behaviours))


def states(tasks):
  return {task.job.name: task.state for task in tasks}


def calls(job):
  path = Path(job.folder) / "calls"
  return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def make(tmp_path, **settings):
  todo = jobs_of(small(**settings), tmp_path)
  for job in todo:
    template(job)
  return todo


def test_all_are_trained_and_evaluated(tmp_path):
  todo = make(tmp_path)
  tasks = pool.run(todo, workers=3)
  assert states(tasks) == {"eps": "finished", "x0": "finished", "v": "finished"}
  assert all(calls(job) == ["train", "end", "eval", "end"] and job.finished for job in todo)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_than_the_workers_run_at_a_time(tmp_path, workers):
  most = []
  pool.run(make(tmp_path), workers, lambda tasks: most.append(sum(task.active for task in tasks)))
  assert max(most) == workers


def test_what_is_done_is_not_done_again(tmp_path):
  eps, x0, v = todo = make(tmp_path)
  train(eps)
  train(x0, step=20)
  pool.run(todo, workers=3)
  assert [calls(job)[::2] for job in (eps, x0, v)] == [["eval"], ["train", "eval"], ["train", "eval"]]


def test_a_failure_stops_no_other(tmp_path, stub):
  stub(eps="fail", x0="early")
  tasks = pool.run(make(tmp_path), workers=1)
  assert states(tasks) == {"eps": "failed", "x0": "failed", "v": "finished"}
  assert [task.why for task in tasks] == ["train ended with status 3", "train was stopped before its end", ""]


def test_a_command_that_is_not_there(tmp_path):
  todo = jobs.of(small(), {j.name: j.config for j in make(tmp_path)}, str(tmp_path), (f"{tmp_path}/nothing",))
  tasks = pool.run(todo, workers=1)
  assert set(states(tasks).values()) == {"failed"} and "No such file" in tasks[0].why


def test_samplings_wait_for_the_training(tmp_path, stub):
  sweep = product("configs/digits.py", {"sample.steps": (5, 10)}, shared={"train.steps": 40}, trained={})
  todo = jobs_of(sweep, tmp_path / "a")
  for job in todo:
    Path(job.folder).mkdir(parents=True)
    evaluation = report(job, seeds=[0, 1, 2])
    (Path(job.folder) / "template.json").write_text(json.dumps(evaluation))
  assert set(states(pool.run(todo, workers=3)).values()) == {"finished"}
  end = float((Path(todo[0].folder) / "calls").read_text().split()[-1])
  for job in todo[1:]:
    assert float((Path(job.folder) / "calls").read_text().split()[1]) > end
  stub(trained="fail")
  tasks = pool.run(jobs_of(sweep, tmp_path / "b"), workers=3)
  assert states(tasks) == {"trained": "failed", "steps_5": "not started", "steps_10": "not started"}


def test_a_sampling_runs_alone_once_the_training_is_there(tmp_path):
  sweep = product("configs/digits.py", {"sample.steps": (5,)}, shared={"train.steps": 40}, trained={})
  first, second = jobs_of(sweep, tmp_path)
  train(first)
  Path(second.folder).mkdir()
  (Path(second.folder) / "template.json").write_text(json.dumps(report(second, seeds=[0, 1, 2])))
  assert states(pool.run([second], workers=1)) == {"steps_5": "finished"}


def interrupting(todo, names, times=1):
  """A show that sends Ctrl-C once the named runs are ready, and again after it is heard."""
  sent = []

  def show(tasks):
    ready = all((Path(job.folder) / "ready").exists() for job in todo if job.name in names)
    heard = all((Path(job.folder) / "signals").exists() for job in todo if job.name in names)
    if (ready and not sent) or (heard and len(sent) < times):
      sent.append(os.kill(os.getpid(), signal.SIGINT))

  return show


def test_ctrl_c_lets_every_run_save_once(tmp_path, stub):
  stub(eps="sleep", x0="sleep")
  todo, before = make(tmp_path), signal.getsignal(signal.SIGINT)
  tasks = pool.run(todo, 2, interrupting(todo, ("eps", "x0")))
  assert states(tasks) == {"eps": "stopped", "x0": "stopped", "v": "not started"}
  for name in ("eps", "x0"):
    assert (tmp_path / name / "signals").read_text() == "SIGTERM\n"
  assert calls(todo[2]) == []
  assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_kills(tmp_path, stub):
  stub(eps="deaf")
  todo = make(tmp_path)
  tasks = pool.run(todo, 1, interrupting(todo, ("eps",), times=2))
  assert states(tasks) == {"eps": "stopped", "x0": "not started", "v": "not started"}
  assert (tmp_path / "eps" / "signals").read_text() == "SIGTERM\n"


def test_no_command_outlives_the_pool(tmp_path, stub):
  stub(eps="deaf")
  todo, running = make(tmp_path), []

  def show(tasks):
    running.extend(task.process.pid for task in tasks if task.active)
    if (tmp_path / "eps" / "ready").exists():
      raise RuntimeError("a mistake")

  with pytest.raises(RuntimeError):
    pool.run(todo, 1, show)
  with pytest.raises(ProcessLookupError):
    os.kill(running[-1], 0)


class Terminal(io.StringIO):
  """A stream that says it is one."""

  def isatty(self):
    return True


def test_a_terminal_gets_one_table(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "60")
  monkeypatch.setenv("LINES", "24")
  todo, stream = make(tmp_path), Terminal()
  tasks = [pool.Task(job) for job in todo]
  shown = board.Board(stream, clock=iter([0.0, 0.0, 0.5, 2.0, 2.0]).__next__)
  shown(tasks)
  assert stream.getvalue().count("waiting") == 3
  first = stream.getvalue()
  shown(tasks)
  assert stream.getvalue() == first  # half a second later nothing is drawn
  tasks[0].state, tasks[0].process = "training", object()
  (tmp_path / "eps" / "log.txt").write_text("t  step 9/40  22%  loss 0.5  100 images/s  ETA 0:00:31\n")
  (tmp_path / "eps" / "metrics.jsonl").write_text('{"step": 9, "loss": 0.5}\n')
  shown(tasks)
  second = stream.getvalue()[len(first) :]
  assert second.startswith("\x1b[5F\x1b[J")  # header, rule and three runs
  assert re.search(r"eps +training +9/40 +0\.5 +100 +0:00:31", second)


def test_a_long_table_shows_what_runs(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "60")
  monkeypatch.setenv("LINES", "6")
  sweep = product("configs/digits.py", {"seed": range(20)})
  tasks = [pool.Task(job) for job in jobs_of(sweep, tmp_path)]
  tasks[13].state, tasks[13].process = "training", object()
  stream = Terminal()
  board.Board(stream)(tasks)
  assert "seed_13" in stream.getvalue() and "of 20 runs" in stream.getvalue()
  assert stream.getvalue().count("\n") <= 5


def sweep_folder(tmp_path, names=("eps", "x0", "v")):
  """A sweep outside the repository, and the templates of its runs."""
  place = tmp_path / "mine" / "__init__.py"
  place.parent.mkdir()
  place.write_text(
    "from experiments.tools.sweeps import product\n"
    f"SWEEP = product('configs/digits.py', {{'objective.predict': {names!r}}}, shared="
    "{'train.steps': 40, 'eval.seeds': 2, 'eval.count': 30})\n"
  )
  for job in jobs_of(small(names), tmp_path / "runs" / "mine"):
    template(job)
  return [str(place.parent), f"--workdir={tmp_path}/runs"]


def test_launch_skips_resumes_and_names_the_failed(tmp_path, stub, capsys):
  where = sweep_folder(tmp_path)
  eps = jobs_of(small(), tmp_path / "runs" / "mine")[0]
  train(eps)
  evaluate(eps, report(eps))
  stub(x0="fail")
  assert launch.main([*where, "--on=local"], STUB) == 1
  out, err = capsys.readouterr()
  assert "3 runs, 1 finished before" in out and "x0: failed" in out and "v: finished" in out
  assert "x0 failed: train ended with status 3" in err and "| RuntimeError: the stub is broken" in err
  assert "\x1b" not in out and calls(eps) == []
  stub()
  assert launch.main([*where, "--on=local"], STUB) == 0
  assert "3 runs, 2 finished before" in capsys.readouterr().out
  assert launch.main([*where, "--on=local"], STUB) == 0
  assert "3 runs, 3 finished before" in capsys.readouterr().out


def test_launch_says_that_it_was_stopped(tmp_path, stub, capsys, monkeypatch):
  where = sweep_folder(tmp_path, ("eps",))
  stub(eps="sleep")
  (job,) = jobs_of(small(("eps",)), tmp_path / "runs" / "mine")
  show = interrupting([job], ("eps",))
  monkeypatch.setattr(board.Board, "__call__", lambda self, tasks: show(tasks))
  assert launch.main([*where, "--on=local"], STUB) == 130
  assert "the same command goes on from here" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(tmp_path, capsys):
  where = sweep_folder(tmp_path, ("eps",))
  assert launch.main([*where, "--on=local", "--dry_run"], STUB) == 0
  assert capsys.readouterr().out.count("--config.objective.predict=eps") == 2
  assert not (tmp_path / "runs/mine/eps/calls").exists()


def test_workers_have_gpus_of_their_own(tmp_path, monkeypatch, capsys):
  where = sweep_folder(tmp_path)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5,6,7,8")
  assert launch.main([*where, "--on=local", "--workers=3", "--gpus=2"], STUB) == 0
  todo = [(tmp_path / "runs/mine" / name / "calls").read_text().split()[2] for name in ("eps", "x0", "v")]
  assert sorted(todo) == ["3,4", "5,6", "7,8"]


def test_mistakes_end_with_2_before_anything_starts(tmp_path, capsys):
  assert launch.main(["objectivs", "--on=local"], STUB) == 2
  assert "error: there is no sweep 'objectivs'" in capsys.readouterr().err
  where = sweep_folder(tmp_path, ("eps",))
  place = tmp_path / "mine" / "__init__.py"
  place.write_text(place.read_text().replace("'eps',", "'eps', 'velocity'"))
  assert launch.main([*where, "--on=local"], STUB) == 2
  assert "run velocity: config.objective.predict is 'velocity'" in " ".join(capsys.readouterr().err.split())
  assert not (tmp_path / "runs/mine/eps/calls").exists()
