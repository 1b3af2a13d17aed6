"""Lets anomalib find anomalib-plus without an import by the user.

Python imports this module at start-up (``anomalib_plus_autoload.pth``, from 3.15 on ``anomalib_plus_autoload.start``),
in processes that never see anomalib too: standard library only, and no work before anomalib itself is imported.
``import anomalib_plus`` installs the same hook where start-up files are ignored (``python -S``, ``--target``).
"""

import os
import sys

TYPE_CHECKING = False  # importing typing would cost more than this whole module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PARTNERS = {
    "anomalib.data": ("anomalib_plus.data",),
    "anomalib.models": ("anomalib_plus.models", "anomalib_plus.tiling"),
}
_WATCHED = frozenset({*PARTNERS, *(ours for partners in PARTNERS.values() for ours in partners)})
started_with_python = False


class _AnnouncingLoader:
    """Executes a module with its own loader, which it puts back first, then reports that the module is complete."""

    def __init__(self, loader: "Loader", finder: "_PartnerFinder") -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = module.__spec__.loader = self._loader  # type: ignore[union-attr]
        self._finder.executing.add(module.__name__)
        try:
            self._loader.exec_module(module)
        finally:
            self._finder.executing.discard(module.__name__)
        self._finder.register_complete_pairs()


class _PartnerFinder:
    """Registers each package of ours with its partner in anomalib once both are complete.

    Ours are watched as well because they may be what imports anomalib: their names do not exist yet at the moment
    when anomalib's package completes. It stays on ``sys.meta_path``, where other threads may be iterating.
    """

    def __init__(self) -> None:
        self.pending = set(PARTNERS)
        self.executing: set[str] = set()

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname not in _WATCHED or not self.pending:
            return None
        others = (getattr(finder, "find_spec", None) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (find(fullname, path, target) for find in others if find)), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _AnnouncingLoader(spec.loader, self)
        return spec

    def register_complete_pairs(self) -> None:
        for host, ours in PARTNERS.items():
            if host not in self.pending or host not in sys.modules or self.executing & {host, *ours}:
                continue
            self.pending.discard(host)
            try:
                from anomalib_plus.plugin import register

                register(host)
            except Exception as error:  # whatever is broken in the plugin, anomalib must keep working
                import warnings

                self.pending.clear()  # one warning, not one per package
                reason = f"{type(error).__name__}: {error}"
                remedy = "reinstall or uninstall anomalib-plus, or set ANOMALIB_PLUS_AUTOLOAD=0"
                warnings.warn(f"anomalib runs without anomalib-plus ({reason}): {remedy}", RuntimeWarning, stacklevel=2)


_finder = _PartnerFinder()


def install() -> None:
    """Register with what is imported of anomalib, and with the rest as soon as it is. Idempotent, never raises."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.register_complete_pairs()


def autoload() -> None:
    """Install at start-up, unless ``ANOMALIB_PLUS_AUTOLOAD=0`` opts out."""
    global started_with_python  # noqa: PLW0603 -- `anomalib-plus doctor` reports it
    if os.environ.get("ANOMALIB_PLUS_AUTOLOAD", "1").lower() not in {"0", "false", "no", "off"}:
        started_with_python = True
        install()
