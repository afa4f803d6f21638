"""The OpenAPI schema as a server publishes it, and the same as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docsite.markdown import code, table
from services.app import create_app
from services.settings import Settings

Schema = dict[str, Any]


def schema() -> Schema:
    """What `/openapi.json` answers on a server with default settings, whatever the environment says."""
    document: Schema = create_app(Settings.model_construct()).openapi()
    return document


def operations() -> str:
    """Every operation: an overview, and each with what it takes and answers."""
    found = [
        (path, method, operation)
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    ]
    overview = table(
        ("", "path", "what"),
        [
            (method.upper(), f"[`{path}`](#{_anchor(method, path)})", operation["summary"])
            for path, method, operation in found
        ],
    )
    details = [part for path, method, operation in found for part in _operation(path, method, operation)]
    return "\n\n".join([overview, *details])


def _operation(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield f"## {method.upper()} {path} {{ #{_anchor(method, path)} }}"
    yield f"{operation['summary']}."
    if parameters := operation.get("parameters"):
        yield table(
            ("parameter", "in", "what"),
            [(code(one["name"]), one["in"], one.get("description", "")) for one in parameters],
        )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if rows := list(_properties(body, "")):
        yield table(("field of the body", "type", "what"), rows)
    answers = ", ".join(
        f"{status} {answer['description'].lower()}" for status, answer in operation["responses"].items()
    )
    yield f"Answers: {answers}."


def _properties(body: Schema, before: str) -> Iterator[tuple[str, str, str]]:
    required = body.get("required", [])
    for name, property_ in body.get("properties", {}).items():
        must = " (required)" if name in required else ""
        yield code(before + name), _type(property_) + must, property_.get("description", "")
        yield from _properties(property_, f"{before}{name}.")


def _type(property_: Schema) -> str:
    if "anyOf" in property_:
        return " or ".join(dict.fromkeys(_type(one) for one in property_["anyOf"]))
    return str(property_.get("type") or property_.get("const") or "any")


def _anchor(method: str, path: str) -> str:
    words = path.strip("/").replace("{", "").replace("}", "").replace("/", "-") or "root"
    return f"{method}-{words}"
