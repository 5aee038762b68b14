"""The schema of settings files, held against the example files and the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nni_robust.command.schema import page, schema
from nni_robust.settings.schema import parameter_texts, type_schema
from nni_robust.settings.sections import apply_parameters
from nni_robust.settings.signature import signature_of
from nni_robust.strategy import RACL

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.yml"))


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return schema()


def sections_of(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the kind and the sections of a file, None if it is NNI's alone."""
    loaded = yaml.safe_load(path.read_text())
    if "className" in loaded.get("tuner", {}):
        return "host", loaded["tuner"]["classArgs"]
    if "evaluator" not in loaded:
        return None
    kinds = {"networks": "attack", "network": "train"}
    return next((kind for key, kind in kinds.items() if key in loaded), "search"), loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_example_files_fit_the_schema(path, content):
    found = sections_of(path)
    if found is not None:
        kind, sections = found
        definition = {**content["$defs"][f"{kind} file"], "$defs": content["$defs"]}
        jsonschema.validate(sections, definition)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.root", 3),
        ("data.colour", "red"),
        ("evaluator.epochs", "many"),
        ("evaluator.device", "tpu"),
        ("evaluator.train_attack", {"name": "pgd", "step": 1}),
        ("evaluator.recipe", "best"),
        ("seed", -1),
    ],
    ids=str,
)
def test_a_mistake_does_not_fit_the_schema(key, value, content):
    found = sections_of(EXAMPLES / "train.yml")
    assert found is not None
    definition = {**content["$defs"]["train file"], "$defs": content["$defs"]}
    if "." in key:
        section, name = key.split(".")
        sections = {**found[1], section: {**found[1][section], name: value}}
    else:
        sections = apply_parameters(found[1], {key: value})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(sections, definition)


def test_every_key_has_a_description(content):
    for name, definition in content["$defs"].items():
        for form in definition.get("oneOf", [definition]):
            for key, entry in form.get("properties", {}).items():
                described = "description" in entry and entry["description"]
                reference = "$ref" in entry or "const" in entry or entry == {}
                assert described or reference or key in ("name", "seed"), f"{name}: {key}"


def test_options_in_groups_are_keys_of_the_section():
    texts = parameter_texts(RACL, signature_of(RACL))
    assert {"confidence", "rho", "lipschitz", "learning_rate"} <= set(texts)


def test_a_number_may_be_a_fraction():
    jsonschema.validate("8/255", type_schema(float))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("eight", type_schema(float))


def test_the_page_lists_every_form_of_a_section(content):
    text = page(content)
    for name in ("pgd", "robnet", "racl", "digits", "staged", "one_shot_search", "trades"):
        assert f"### `{name}`" in text
    assert "| `steps` | integer |" in text
