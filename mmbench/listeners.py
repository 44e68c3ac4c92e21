"""Plugins that are told how a run goes, and that cannot hurt it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluggy import PluginManager

    from mmbench.registry import Source


class Listeners:
    """Calls the hooks that tell of a run, of every plugin that has them."""

    def __init__(
        self,
        listening: Sequence[tuple[Source, PluginManager]] = (),
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.listening, self.warn = listening, warn
        self.told: set[tuple[Source, str]] = set()

    def tell(self, hook: str, **facts: Any) -> None:
        """Calls one hook; what a plugin raises is a warning, once for each hook of a plugin."""
        for source, manager in self.listening:
            try:
                getattr(manager.hook, hook)(**facts)
            except (Exception, SystemExit) as error:  # a logger is never the end of a run
                if (source, hook) not in self.told:
                    self.told.add((source, hook))
                    self.warn(
                        f"{source}: {hook} raised {type(error).__name__}: {error}. The run goes on; "
                        f"without this plugin: MMBENCH_DISABLE_PLUGINS={source.name}"
                    )
