"""The README and the runbook as pages of the site, so that what they say is written once.

Their links lead to each other here as they do in the repository; one to a file that the site does not have
becomes that file's name.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {"readme.md": ROOT / "README.md", "runbook.md": ROOT / "deploy" / "README.md"}
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


class NotThere(Exception):
    """A link of the README or the runbook leads nowhere."""


def page(source: Path) -> str:
    """The file as a page of the site; raises NotThere for a link to a file that does not exist."""
    text = source.read_text()
    if text.startswith("---\n"):
        text = text.split("---\n", 2)[2]
    parts = _FENCED.split(text)
    parts[::2] = [_LINK.sub(lambda found: _relinked(found, source), part) for part in parts[::2]]
    return "".join(parts)


def _relinked(found: re.Match[str], source: Path) -> str:
    text, target, anchor = found[1], found[2], found[3] or ""
    if not target or "://" in target:
        return found[0]
    path = (source.parent / target).resolve()
    if not path.exists():
        message = f"{source.relative_to(ROOT)} links to {target}, which is not there"
        raise NotThere(message)
    pages = {other: name for name, other in PAGES.items()}
    if path in pages or path.is_relative_to(DOCS):
        return f"[{text}]({pages.get(path) or path.relative_to(DOCS)}{anchor})"
    shown = str(path.relative_to(ROOT))
    return f"`{shown}`" if text in {target, shown} else f"{text} (`{shown}`)"
