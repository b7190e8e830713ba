"""Which commands are still needed, decided on workdirs made by hand; and progress read from them."""

import json
from pathlib import Path

import numpy as np
import pytest
from fabricated import evaluate, jobs_of, metrics, report, small, train

from diffjax.config import resolved
from diffjax.data.source import ArraySource
from diffjax.jobs import workdir
from diffjax.types import ConfigError
from experiments.tools import jobs, progress
from experiments.tools.sweeps import product


@pytest.fixture
def job(tmp_path):
  """The first job of a sweep with an empty workdir."""
  return jobs_of(small(), tmp_path)[0]


def test_commands(tmp_path):
  job = jobs_of(small(), tmp_path)[2]
  assert list(job.commands) == ["train", "eval"]
  shared = ("--config.train.steps=40", "--config.eval.seeds=2", "--config.eval.count=30")
  assert job.commands["eval"][2:] == (
    "--config=configs/digits.py",
    *shared,
    "--config.objective.predict=v",
    f"--workdir={tmp_path}/v",
    "--mode=eval",
  )


def test_what_has_no_metrics_is_not_evaluated(tmp_path):
  (job,) = jobs_of(product("configs/digits.py", {"eval.metrics": {"none": ()}}), tmp_path)
  assert list(job.commands) == ["train"]


def test_an_empty_workdir_needs_everything(job):
  assert not job.done("train") and not job.done("eval") and not job.finished


def test_an_earlier_checkpoint_is_not_the_end(job):
  train(job, step=20)
  evaluate(job, report(job), step=20)
  assert not job.done("train") and not job.finished


def test_an_evaluation_without_its_checkpoint_is_not_the_end(job):
  train(job, step=20)
  evaluate(job, report(job))
  assert not job.done("eval") and not job.finished


def test_trained_and_not_evaluated(job):
  train(job)
  assert job.done("train") and not job.done("eval") and not job.finished


def test_trained_and_evaluated(job):
  train(job)
  evaluate(job, report(job))
  assert job.finished


@pytest.mark.parametrize(
  "changes",
  [{"seeds": [0]}, {"samples": 29}, {"metrics": {}}, {"sample": {"steps": 3}}, {"sample": None}],
)
def test_an_evaluation_with_other_settings_is_done_again(job, changes):
  train(job)
  evaluate(job, report(job, **changes))
  assert job.done("train") and not job.done("eval")


def test_a_torn_evaluation_is_done_again(job):
  train(job)
  evaluate(job, report(job))
  place = Path(job.folder) / "eval/40/metrics.json"
  place.write_text(place.read_text()[:-20])
  assert not job.finished


def test_named_checkpoints_are_all_evaluated(tmp_path):
  (job,) = jobs_of(small(("v",), trained=None), tmp_path)
  job.config.eval.checkpoints = "20,40"
  train(job)
  evaluate(job, report(job))
  assert not job.finished
  evaluate(job, report(job), step=20)
  assert job.finished


def test_the_workdir_of_another_config_is_refused(job, tmp_path):
  jobs.prepare(job)
  data = ArraySource({"image": np.zeros((1, 8, 8, 1), np.uint8)}, "fingerprint")
  other = {"config": resolved(jobs_of(small(), tmp_path)[1].config)}
  workdir.save(Path(job.folder), other, data, {})
  train(job, step=20)
  with pytest.raises(ConfigError, match="config.objective.predict is 'eps' here and 'x0' there"):
    jobs.prepare(job)


def test_samplings_borrow_the_run(tmp_path):
  first, *others = jobs_of(
    product("configs/digits.py", {"sample.steps": (5, 10)}, shared={"train.steps": 40}, trained={}), tmp_path
  )
  assert (first.name, first.after, list(first.commands)) == ("trained", "", ["train"])
  assert [(job.after, list(job.commands)) for job in others] == [("trained", ["eval"])] * 2
  for job in (others[0], others[0]):
    jobs.prepare(job)
  assert not others[0].trained
  train(first)
  data = ArraySource({"image": np.zeros((1, 8, 8, 1), np.uint8)}, "fingerprint")
  workdir.save(Path(first.folder), {"config": resolved(first.config)}, data, {})
  assert others[0].trained and not others[0].finished
  workdir.require_same(Path(others[0].folder), others[0].config, resolved(others[0].config))
  with pytest.raises(ConfigError, match="config.train.steps is 41 here and 40"):
    others[0].config.train.steps = 41
    workdir.require_same(Path(others[0].folder), others[0].config, resolved(others[0].config))


LOG = """\
2026-01-01 00:00:00+00:00  training: 702,753 parameters, 1,442 images, 1 x cpu, jit, workdir runs/a
2026-01-01 00:00:10+00:00  step 100/1200  8%  750 images/s  ETA 0:01:34
2026-01-01 00:00:20+00:00  step 200/1200  16%  loss 0.5844  1,629 images/s  ETA 0:01:42
2026-01-01 00:00:21+00:00  Step 3 of nothing
"""


def test_progress(job):
  folder = Path(job.folder)
  assert progress.read(folder) == progress.Progress()
  metrics(job, {"step": 200, "loss": 0.25, "grad_norm": 1.0}, {"step": 200, "held_out/raw/a": 3.0})
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('{"step": 300, "lo')
  (folder / "log.txt").write_text(LOG)
  assert progress.read(folder) == progress.Progress("200/1200", "0.25", "1,629", "0:01:42")
  since = progress.size(folder)
  assert progress.read(folder, since).step == ""
  with (folder / "log.txt").open("a") as file:
    file.write("2026-01-01 00:01:00+00:00  step 80/2160  3%  10.6 images/s  ETA -:--:--\n")
  assert progress.read(folder, since) == progress.Progress("80/2160", "0.25", "10.6", "-:--:--")


def test_progress_reads_the_reporter(job, tmp_path):
  """The very lines that a run writes."""
  from diffjax.machine import reporting

  folder, time = Path(job.folder), iter(range(1000))
  with reporting.create(
    folder, batch_size=64, log_every=1, clock=lambda: float(next(time)), stream=(tmp_path / "out").open("w")
  ) as reporter:
    reporter.metrics(3, {"loss": float("nan")})
    for step in (1, 2, 3):
      reporter.progress(step, 9, {"loss": 0.25})
  now = progress.read(folder)
  assert (now.step, now.loss) == ("3/9", "nan")
  assert float(now.rate) > 0 and now.eta.startswith("0:00:")


def test_the_end_of_the_output(job):
  assert jobs.tail(job) == "(it said nothing)"
  Path(job.folder).mkdir()
  (Path(job.folder) / "launch.txt").write_text("\n".join(map(str, range(100))))
  assert jobs.tail(job, 3) == "97\n98\n99"
  assert json.dumps(jobs.tail(job, 1)) == '"99"'
