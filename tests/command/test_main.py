"""The command line itself: help, wrong arguments, exit statuses, and what stays a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nni_robust.__main__ import main
from nni_robust.check import SettingError
from nni_robust.command import draw
from nni_robust.command.arguments import COMMANDS


def test_help_loads_neither_torch_nor_nni():
    code = (
        "import sys; from nni_robust.__main__ import main\n"
        "try: main(['evaluate', '--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'nni', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: nni-robust evaluate")
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_that_fits_into_a_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: nni-robust {name}")
    assert max(map(len, text.split("\n"))) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nni-robust: the following arguments are required: COMMAND\n"),
        (["evaluate"], "nni-robust evaluate: the following arguments are required: network\n"),
        (["verify", ".", "--tier", "quick"], "nni-robust: unrecognized arguments: --tier quick\n"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_in_one_line_without_the_usage(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    "error", [SettingError("must be 1.", "steps"), OSError("disk full"), FloatingPointError("NaN")]
)
def test_an_error_that_the_user_can_fix_is_one_line(error, monkeypatch, capsys):
    def fail(given):
        raise error

    monkeypatch.setattr(draw, "run", fail)
    assert main(["draw", "racl"]) == 2
    assert capsys.readouterr().err == f"nni-robust draw: {error}\n"


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), RuntimeError("bug")])
def test_a_bug_keeps_its_traceback(error, monkeypatch):
    def fail(given):
        raise error

    monkeypatch.setattr(draw, "run", fail)
    with pytest.raises(type(error), match="bug"):
        main(["draw", "racl"])


def test_an_interrupted_command_has_the_status_of_the_shell(monkeypatch, capsys):
    def stop(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(draw, "run", stop)
    assert main(["draw", "racl"]) == 130
    assert capsys.readouterr().err == "nni-robust draw: interrupted\n"


def test_a_drawing_goes_into_a_folder_that_does_not_exist_yet(tmp_path):
    assert main(["draw", "racl", "--output", str(tmp_path / "new" / "racl")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"racl.svg", "racl.png"}
