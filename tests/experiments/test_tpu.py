"""The script for a Cloud TPU: valid shell, every worker, config and workdir, and what it does when run."""

import os
import re
import shlex
import shutil
import stat
import subprocess

import pytest
from fabricated import SHARED

from diffjax import experiment
from experiments import launch
from experiments.tools import sweeps

NAMED = [
  "--tpu_name=my tpu's",
  "--tpu_zone=us-central2-b",
  "--tpu_type=v4-32",
  "--tpu_runtime=tpu-ubuntu2204-base",
]
FLAGS = ["--on=tpu", *NAMED, "--tpu_workers=4", "--workdir=gs://bucket/a sweep's"]


@pytest.fixture(autouse=True)
def unmade(monkeypatch):
  """The runs' objects are not made here: that a sweep makes them before it starts is in test_sweeps.py."""
  monkeypatch.setattr(experiment, "create", lambda *_: None)


def script(capsys, *flags, name="objectives"):
  assert launch.main([name, *FLAGS, *flags, "--dry_run"]) == 0
  return capsys.readouterr().out


def commands(text):
  """The words of every command line of a script."""
  lexer = shlex.shlex(text, posix=True, punctuation_chars="&\n")
  lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
  results = [[]]
  for word in lexer:
    results.append([]) if set(word) <= {"&", "\n"} else results[-1].append(word)
  return [words for words in results if words]


def remote(text, mode="--mode="):
  """(worker, command) of every ssh line that runs main.py."""
  pairs = []
  for words in commands(text):
    if "ssh" in words and any(mode in word for word in words):
      options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
      pairs.append((int(options["--worker"]), options["--command"]))
  return pairs


@pytest.mark.parametrize(
  "name, flags",
  [
    ("objectives", []),
    ("objectives", ["--tpu_spot", "--tpu_project=p q"]),
    ("ddim_steps", ["--workdir=/mnt/disk/it's"]),
  ],
)
def test_it_is_valid_shell(capsys, flags, name):
  text = script(capsys, *flags, name=name)
  checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
  assert checked.returncode == 0, checked.stderr
  there = "\n".join(command for _, command in remote(text))
  assert subprocess.run(["bash", "-n"], input=there, text=True).returncode == 0


@pytest.mark.shellcheck
@pytest.mark.parametrize("name", ["objectives", "ddim_steps"])
def test_shellcheck_finds_nothing(capsys, name):
  assert shutil.which("shellcheck"), "install shellcheck, a Debian package"
  text = script(capsys, name=name)
  checked = subprocess.run(["shellcheck", "-"], input=text, text=True, capture_output=True)
  assert checked.returncode == 0, checked.stdout


def test_every_worker_runs_every_config_in_its_workdir(capsys):
  sweep = sweeps.load("objectives")
  result = remote(script(capsys))
  assert len(result) == 4 * len(sweep.runs)
  for run in sweep.runs:
    folder = f"/mnt/diffjax/a sweep's/objectives/{run.name}"
    mine = [(worker, command) for worker, command in result if shlex.quote(f"--workdir={folder}") in command]
    assert [worker for worker, _ in mine] == [0, 1, 2, 3]
    for _, command in mine:
      words = shlex.split(command)
      assert words.count(f"--workdir={folder}") == 2
      assert words.count("--config=configs/digits.py") == 2
      for path, value in (sweep.shared | run.overrides).items():
        assert words.count(f"--config.{path}={value}") == 2
      assert words.index("--mode=train") < words.index("--mode=eval")


def test_the_names_are_quoted(capsys):
  text = script(capsys, "--tpu_project=p q", "--repository=/some where")
  for words in commands(text):
    if "gcloud" in words:
      assert "--project=p q" in words and "--zone=us-central2-b" in words
      assert "my tpu's" in words or "my tpu's:diffjax-code.bundle" in words
  assert ["git", "-C", "/some where", "bundle", "create", "-q", "$bundle", "HEAD"] in commands(text)
  (create,) = [words for words in commands(text) if "create" in words and "gcloud" in words]
  assert {"--node-id=my tpu's", "--accelerator-type=v4-32", "--runtime-version=tpu-ubuntu2204-base"} < set(
    create
  )
  assert "--spot" not in create


def test_the_runs_get_the_environment(capsys):
  flags = ["--env=TFDS_DATA_DIR=/mnt/diffjax/my data's", "--env=EMPTY="]
  result = remote(script(capsys, *flags))
  assert result
  for _, command in result:
    home, *_ = command.partition(".venv/bin/python")
    shown = home.replace("cd diffjax-code", "cd /") + 'printf "%s,%s" "$TFDS_DATA_DIR" "${EMPTY-unset}"'
    assert subprocess.check_output(["bash", "-c", shown], text=True) == "/mnt/diffjax/my data's,"


@pytest.mark.parametrize("given", ["TFDS_DATA_DIR", "=x", "1A=x", "A B=x"])
def test_a_variable_that_is_none_is_refused(given, capsys):
  with pytest.raises(SystemExit) as ended:
    launch.main(["objectives", *FLAGS, f"--env={given}", "--dry_run"])
  assert ended.value.code == 2 and f"{given} is no NAME=VALUE" in capsys.readouterr().err


GCLOUD = """\
#!/bin/bash
# Does on this machine what gcloud would on a worker; every call is a line of $CALLS.
printf '%s\\n' "$*" >> "$CALLS"
worker= command=
for word in "$@"; do
  case "$word" in --worker=*) worker=${word#*=} ;; --command=*) command=${word#*=} ;; esac
done
home="$HOMES/$worker"
mkdir -p "$home"
case "$*" in
  *describe*) [ -e "$HOMES/created" ] || exit 1; echo "${STATE:-ACTIVE}" ;;
  *' create '*) touch "$HOMES/created" ;;
  *' scp '*)
    for word in "$@"; do
      case "$word" in */code.bundle) cp "$word" "$home/diffjax-code.bundle" ;; esac
    done ;;
  *' ssh '*) cd "$home" && HOME="$home" WORKER="$worker" bash -c "$command" ;;
esac
"""
PYTHON = """\
#!/bin/bash
# In the place of a worker's python: makes what main.py would.
echo "$WORKER $(git rev-parse HEAD) $*" >> "$CALLS.python"
for word in "$@"; do case "$word" in --workdir=*) folder=${word#*=} ;; esac; done
case "$*" in *"$FAIL"*) [ -n "$FAIL" ] && [ "$WORKER" = 1 ] && exit 7 ;; esac
case "$*" in
  *--mode=train) mkdir -p "$folder/checkpoints/40" ;;
  *)
    [ -e "$folder/checkpoints/40" ] || exit 9
    mkdir -p "$folder/eval/40"
    touch "$folder/eval/40/metrics.json" ;;
esac
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """A gcloud whose workers are folders here, and a repository to copy; runs a sweep on them."""
  for place, text in (("bin/gcloud", GCLOUD), ("python", PYTHON)):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
  repository = tmp_path / "the code"
  git = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e@x"]
  subprocess.run(["git", "init", "-q", str(repository)], check=True)
  (repository / "main.py").touch()
  subprocess.run([*git, "add", "."], check=True)
  subprocess.run([*git, "commit", "-qm", "first"], check=True)
  for name, value in {
    "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
    "CALLS": f"{tmp_path}/calls",
    "HOMES": f"{tmp_path}/homes",
    "FAIL": "",
  }.items():
    monkeypatch.setenv(name, value)
  sweep = tmp_path / "mine" / "__init__.py"
  sweep.parent.mkdir()

  def run(trained=None):
    axis = {"sample.steps": (5, 10)} if trained is not None else {"objective.predict": ("eps", "v")}
    sweep.write_text(
      "from experiments.tools.sweeps import product\n"
      f"SWEEP = product('configs/digits.py', {axis!r}, shared={SHARED!r}, trained={trained!r})\n"
    )
    setup = f"mkdir -p .venv/bin; cp {tmp_path}/python .venv/bin/python"
    flags = [*NAMED, "--tpu_workers=2", f"--workdir={tmp_path}/a shared disk's", f"--tpu_setup={setup}"]
    return launch.main([str(sweep.parent), "--on=tpu", *flags, f"--repository={repository}"])

  run.python = lambda: (
    [line.split(maxsplit=2) for line in (tmp_path / "calls.python").read_text().splitlines()]
    if (tmp_path / "calls.python").exists()
    else []
  )
  run.calls = lambda: (tmp_path / "calls").read_text().splitlines()
  run.head = lambda: subprocess.run(
    [*git, "rev-parse", "HEAD"], capture_output=True, text=True
  ).stdout.strip()
  return run


def test_the_script_runs_every_run_on_every_worker(cloud):
  assert cloud() == 0
  pattern = re.compile(r".* --config.objective.predict=(\w+) --workdir=.* --mode=(\w+)")
  results = [(worker, *pattern.fullmatch(words).groups()) for worker, _, words in cloud.python()]
  assert sorted(results) == sorted((w, p, m) for w in "01" for p in ("eps", "v") for m in ("train", "eval"))
  assert [predict for _, predict, _ in results] == ["eps"] * 4 + ["v"] * 4  # one run after the other
  assert {commit for _, commit, _ in cloud.python()} == {cloud.head()}
  before = len(cloud.python())
  assert cloud() == 0
  assert len(cloud.python()) == before  # finished runs are left alone
  assert sum(" create " in call for call in cloud.calls()) == 1


def test_a_run_that_fails_on_one_worker_stops_no_other(cloud, monkeypatch, capfd):
  monkeypatch.setenv("FAIL", "predict=eps")
  assert cloud() == 1
  assert "failed: eps\n" in capfd.readouterr().err
  assert sum("predict=v" in words for _, _, words in cloud.python()) == 4


def test_samplings_find_the_checkpoints(cloud):
  assert cloud(trained={}) == 0
  assert sum("--mode=train" in words for _, _, words in cloud.python()) == 2
  assert sum("--mode=eval" in words for _, _, words in cloud.python()) == 4


def test_a_resource_that_fails_ends_the_script(cloud, monkeypatch):
  monkeypatch.setenv("STATE", "FAILED")
  assert cloud() == 1
  assert cloud.python() == []


def test_a_script_may_be_longer_than_an_argument_may_be(cloud, monkeypatch, capfd):
  many = ["objectives", *FLAGS, "--tpu_workers=64"]
  assert launch.main([*many, "--dry_run"]) == 0
  assert len(capfd.readouterr().out) > 2**17  # Linux's MAX_ARG_STRLEN
  monkeypatch.setenv("STATE", "FAILED")
  assert launch.main(many) == 1
  assert capfd.readouterr().out == "queued resource: FAILED\n"


def test_mistakes(capsys, monkeypatch):
  assert launch.main(["objectives", "--on=tpu", *NAMED[:2]]) == 2
  assert "needs --tpu_type" in capsys.readouterr().err
  assert launch.main(["objectives", *FLAGS, "--workdir=runs", "--dry_run"]) == 2
  assert "is another folder on each of 4 workers" in " ".join(capsys.readouterr().err.split())
  assert launch.main(["objectives", *FLAGS, "--workdir=gs:///x", "--dry_run"]) == 2
  assert "names no bucket" in capsys.readouterr().err
  monkeypatch.setenv("PATH", "/nonexistent")
  assert launch.main(["objectives", *FLAGS]) == 2
  assert "needs gcloud, which is not on this machine" in capsys.readouterr().err


def test_a_bucket_is_mounted_and_its_root_may_be_the_workdir(capsys):
  flags = re.search(r"gcsfuse ((?:--\S+ )+)bucket /mnt/diffjax;", script(capsys))[1].split()
  assert "--implicit-dirs" in flags
  limit = dict(flag.split("=") for flag in flags if "=" in flag)["--rename-dir-limit"]
  assert int(limit) > 10_000  # with 0 no checkpoint could be finished
  assert "gcsfuse" not in script(capsys, "--workdir=/mnt/disk")
  assert "--workdir=/mnt/diffjax/objectives/eps-linear " in script(capsys, "--workdir=gs://bucket")
