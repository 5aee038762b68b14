"""Files are replaced completely or not at all."""

from __future__ import annotations

import pytest

from nni_robust.atomic import replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as scratch:
        scratch.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_or_writes_nothing_leaves_the_file_unchanged(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(TypeError), replacing(path) as scratch:
        scratch.write_text(3)  # type: ignore[arg-type]  # opens the file, then fails
    with replacing(path):
        pass
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
