"""The command draw, for published networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from nni_robust.__main__ import main
from nni_robust.check import SettingError
from nni_robust.command.draw import draw


@pytest.mark.parametrize("name", ["racl", "robnet-small"])
def test_a_published_network_is_drawn_into_a_missing_folder(name, tmp_path, capsys):
    output = tmp_path / "new" / "folder" / "cells"
    assert main(["draw", name, "--output", str(output)]) == 0
    written = [output.with_name("cells.svg"), output.with_name("cells.png")]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert all(path.is_file() for path in written)


# A drawing concatenates all nodes, which AmoebaNet does not.
@pytest.mark.parametrize("name", ["nothing", "amoebanet-a"])
def test_an_unknown_network_is_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", name]) == 2
    error = capsys.readouterr().err
    assert "network must be a folder of results or one of ['advrush'," in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_results_goes_before_a_published_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "racl").mkdir()
    with pytest.raises(SettingError, match="'racl' must hold a chosen network"):
        draw("racl", None)


def test_an_output_without_a_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"--output must name files, got '\.'"):
        draw("racl", Path())
