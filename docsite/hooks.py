"""What mkdocs calls while it builds: generated parts, generated pages, and the pictures.

A line `<!-- generated: NAME -->` becomes what the function of that name says, and an empty
`<figure data-picture="NAME">` the drawing docs/pictures/NAME.svg, inside the page so that it takes the page's
colours. A name that there is none of stops the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from docsite import metrics, openapi, project, python, tables

GENERATED: dict[str, Callable[[], str]] = {
    "settings": tables.settings,
    "errors": tables.error_table,
    "client-errors": tables.client_errors,
    "error-tree": tables.error_tree,
    "commands": tables.command_line,
    "clients": python.clients,
    "models": python.models,
    "transports": python.transports,
    "operations": openapi.operations,
    "metrics": metrics.metrics,
}
SCHEMA = "reference/openapi.json"
_MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
_PICTURE = re.compile(r'<figure class="picture" data-picture="([\w-]+)"></figure>')


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    for name, source in project.PAGES.items():
        files.append(File.generated(config, name, content=project.page(source)))
    files.append(File.generated(config, SCHEMA, content=json.dumps(openapi.schema(), indent=2)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put in what the page asks for."""
    return _MARK.sub(lambda found: _generated(found[1], page.file.src_uri), markdown)


def on_page_content(html: str, page: Any, config: Any, **_: Any) -> str:
    """Put the drawings in."""
    return _PICTURE.sub(lambda found: _picture(found[1], Path(config.docs_dir), page.file.src_uri), html)


def _generated(name: str, where: str) -> str:
    if name not in GENERATED:
        message = f"{where} asks for {name!r}; what can be generated is {', '.join(sorted(GENERATED))}"
        raise PluginError(message)
    return GENERATED[name]()


def _picture(name: str, docs: Path, where: str) -> str:
    drawing = docs / "pictures" / f"{name}.svg"
    if not drawing.is_file():
        message = f"{where} shows the picture {name!r}, and there is no docs/pictures/{name}.svg"
        raise PluginError(message)
    return f'<figure class="picture">{drawing.read_text()}</figure>'
