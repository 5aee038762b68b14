"""The command `schema`: every key of every settings file, with type, default, description."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nni_robust.attack import ATTACKS, ThreatModel
from nni_robust.data import DATASETS
from nni_robust.job.build import ATTACKERS, HOSTED, ONE_SHOT, TRAININGS
from nni_robust.settings.networks import NETWORKS
from nni_robust.settings.schema import NUMBER, section_schema
from nni_robust.space import SPACES
from nni_robust.strategy import STRATEGIES
from nni_robust.training import OBJECTIVES, RECIPES, Recipe


def run(given: argparse.Namespace) -> int:
    """Print the schema."""
    text = json.dumps(schema(), indent=2) if given.format == "json" else page(schema())
    sys.stdout.write(f"{text}\n")
    return 0


def schema() -> dict[str, Any]:
    """Return the JSON Schema of all settings files.

    Returns
    -------
    dict
        ``$defs`` holds the sections by table (``data``, ``space``, ``attack``, ...), each a list of
        named forms, and the kinds of files. A file fits if it fits one kind.
    """
    tables = _tables()
    definitions: dict[str, Any] = {
        table: {"oneOf": [*forms.values(), _OUTSIDE]} for table, forms in tables.items()
    }
    definitions |= _values()
    definitions |= {f"{kind} file": content for kind, content in _files().items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings files of nni_robust",
        "description": (
            "host file: the classArgs of nni_robust.StrategyHost. search, train and attack file: "
            "what the command of that name reads."
        ),
        "anyOf": [{"$ref": f"#/$defs/{kind} file"} for kind in _files()],
        "$defs": definitions,
    }


_OUTSIDE: dict[str, Any] = {
    "type": "object",
    "description": "A class from elsewhere, with its own arguments.",
    "properties": {"name": {"type": "string", "pattern": r"^[\w.]+:\w+$"}},
    "required": ["name"],
}
_THREAT_MODEL: dict[str, Any] = {
    "$ref": "#/$defs/threat_model",
    "description": "Threat model of every attack in this section that has none of its own.",
}


def _tables() -> dict[str, dict[str, Any]]:

    def forms(table: Mapping[str, Any], *given: str) -> dict[str, Any]:
        return {name: section_schema(name, target, given=given) for name, target in table.items()}

    shape = ("num_classes", "in_channels")
    built = ("data", "directory", "tags", "space", "strategy", "strategy_settings", "network")
    found = {
        "data": forms(DATASETS),
        "space": forms(SPACES, *shape),
        "strategy": forms(STRATEGIES, "mutation_hooks"),
        "evaluator of a host": forms(HOSTED, *built),
        "evaluator of a search": forms(ONE_SHOT, *built),
        "evaluator of a training": forms(TRAININGS, *built),
        "evaluator of an attack": forms(ATTACKERS, *built, "networks", "target", "source"),
        "attack": forms(ATTACKS),
        "objective": forms(OBJECTIVES),
    }
    for table, content in found.items():
        if table.startswith("evaluator"):
            for form in content.values():
                form["properties"]["threat_model"] = _THREAT_MODEL
    attack = found["evaluator of an attack"]["attack"]
    attack["required"].remove("name")
    return found


def _values() -> dict[str, Any]:
    """Describe values that are not chosen from a table."""
    threat_model = section_schema("threat_model", ThreatModel)
    del threat_model["properties"]["name"]
    threat_model["required"].remove("name")
    recipe = section_schema("recipe", Recipe)
    recipe["properties"]["name"] = {
        "enum": list(RECIPES),
        "default": "paper",
        "description": "The recipe that gives what this section leaves out.",
    }
    recipe["required"] = []
    network = {
        "type": "object",
        "description": "A network by name; other keys are its arguments. See docs/networks.md.",
        "properties": {
            "name": {
                "anyOf": [{"enum": list(NETWORKS)}, _OUTSIDE["properties"]["name"]],
                "description": "Published or reference network, or package.module:Class.",
            },
            "activation": {"type": "string", "description": "In place of ReLU.", "default": "relu"},
            "size": {**NUMBER, "description": "Factor on the width of the network."},
        },
        "required": ["name"],
    }
    return {
        "threat_model": threat_model,
        "recipe": {"oneOf": [{"enum": list(RECIPES)}, recipe]},
        "network": network,
    }


def _files() -> dict[str, Any]:
    options = {
        "directory": {"type": "string", "description": "Folder of the results."},
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "Seed of every section that has none.",
        },
        "tags": {"type": "object", "description": "Free mapping, stored in every record."},
        "scale": {"type": "string", "description": "One of the scales.", "default": "full"},
        "scales": {
            "type": "object",
            "description": "Maps names of scales to keys, such as data.limit, and their values.",
        },
    }
    wanted = {
        "type": "object",
        "description": "Tags and seed of a training.",
        "properties": {"table": {}, "row": {}, "seed": {"type": "integer"}},
        "required": ["table", "row"],
    }

    def file(required: Sequence[str], **sections: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {**sections, **options},
            "required": list(required),
            "additionalProperties": False,
        }

    def ref(name: str) -> dict[str, str]:
        return {"$ref": f"#/$defs/{name}"}

    search = {key: ref(key) for key in ("data", "space", "strategy")}
    return {
        "host": file([*search, "evaluator"], **search, evaluator=ref("evaluator of a host")),
        "search": file([*search, "evaluator"], **search, evaluator=ref("evaluator of a search")),
        "train": file(
            ["data", "network", "evaluator"],
            data=ref("data"),
            network=ref("network"),
            evaluator=ref("evaluator of a training"),
        ),
        "attack": file(
            ["networks", "target", "evaluator"],
            networks={"type": "string", "description": "Folder with trainings, at any depth."},
            target=wanted,
            source=wanted,
            evaluator=ref("evaluator of an attack"),
        ),
    }


def page(content: Mapping[str, Any]) -> str:
    """Return a schema as a page in Markdown.

    Parameters
    ----------
    content
        From :func:`schema`.
    """
    lines = [
        "# Settings reference",
        "",
        "Every key of every settings file, generated by `nni-robust schema --format markdown`.",
        "`nni-robust schema` prints the same as JSON Schema, for editors.",
        "",
        "Each section has a `name`: one of those below, or `package.module:Class`. A number may",
        "be a fraction, such as `8/255`. `null` is Python's None.",
        "",
        "## Files",
        "",
    ]
    definitions = content["$defs"]
    for name, definition in definitions.items():
        if name.endswith(" file"):
            lines += [f"### {name[0].upper()}{name[1:]}", "", *_rows(definition), ""]
    for name, definition in definitions.items():
        if name.endswith(" file"):
            continue
        lines += [f"## {name[0].upper()}{name[1:]}", ""]
        for form in definition.get("oneOf", [definition]):
            if "properties" in form and form != _OUTSIDE:
                title = form["properties"].get("name", {}).get("const")
                lines += [f"### `{title}`", ""] if title and title != name else []
                lines += [form["description"], "", *_rows(form), ""]
    return "\n".join(lines).rstrip()


def _rows(form: Mapping[str, Any]) -> list[str]:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, entry in form["properties"].items():
        if "const" in entry:
            continue
        default = "required" if key in form.get("required", []) else ""
        if "default" in entry:
            default = f"`{json.dumps(entry['default'])}`"
        meaning = entry.get("description", "").replace("|", "\\|")
        rows.append(f"| `{key}` | {_type_name(entry)} | {default} | {meaning} |")
    return rows if len(rows) > 2 else ["No keys."]


def _type_name(entry: Mapping[str, Any]) -> str:
    """Return a type in words."""
    if "$ref" in entry:
        name = entry["$ref"].removeprefix("#/$defs/")
        return f"[{name}](#{name.replace(' ', '-')})"
    if "enum" in entry:
        names = [json.dumps(value).strip('"') for value in entry["enum"]]
        return " \\| ".join(f"`{name}`" for name in names)
    if "anyOf" in entry:
        names = [_type_name(item) for item in entry["anyOf"] if "pattern" not in item]
        return " \\| ".join(dict.fromkeys(names))
    if entry.get("type") == "array" and isinstance(entry.get("items"), Mapping):
        return f"list of {_type_name(entry['items'])}"
    return str(entry.get("type", "any"))
