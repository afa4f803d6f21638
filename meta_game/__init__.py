"""Another name for `metagame`: the same classes and the same submodules, loaded when first used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import metagame

if TYPE_CHECKING:
    from metagame import *  # noqa: F403 - the same names, for editors and type checkers


class _SameModules(MetaPathFinder, Loader):
    """Finds `meta_game.x` as the module object `metagame.x`, so that no class exists twice."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        if not fullname.startswith("meta_game."):
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module("metagame" + spec.name.removeprefix("meta_game"))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module ran under its own name; only the import system's mark on it is taken off again.
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state


sys.meta_path.insert(0, _SameModules())

__all__ = metagame.__all__


def __getattr__(name: str) -> Any:
    return getattr(metagame, name)


def __dir__() -> list[str]:
    return dir(metagame)
