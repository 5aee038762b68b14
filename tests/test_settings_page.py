"""The settings reference says what the code says."""

from __future__ import annotations

from pathlib import Path

from nni_robust.command.schema import page, schema

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_settings_reference_is_the_generated_one():
    # If this fails: nni-robust schema --format markdown > docs/settings.md
    assert PAGE.read_text().rstrip() == page(schema())
