"""What the tests of the light rooms share. Nothing here imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.plugins import Plugins


@pytest.fixture
def catalog() -> Catalog:
    """Core's own components, whatever is installed."""
    return Catalog(Plugins())


@pytest.fixture
def only_core(monkeypatch):
    """Load no plugin in this process, and forget the catalog before and after."""
    monkeypatch.setenv("MDLM_PLUGINS", "")
    monkeypatch.delenv("MDLM_STRICT", raising=False)
    monkeypatch.delenv("MDLM_DEBUG", raising=False)
    load_catalog.cache_clear()
    yield
    load_catalog.cache_clear()


@pytest.fixture
def distribution(tmp_path) -> Callable[..., Path]:
    """Install a distribution: a module and a dist-info folder in `tmp_path`."""

    def install(
        name: str,
        source: str,
        *,
        requires: str = "mdlm-core>=0.1",
        version: str = "1.2.3",
        value: str = "",
        dist: str = "",
    ) -> Path:
        dist = dist or f"mdlm-{name}"
        module = dist.replace("-", "_")
        package = tmp_path / module
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        (package / "plugin.py").write_text(textwrap.dedent(source), "utf-8")
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requires}"] if requires else []
        (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
        (info / "entry_points.txt").write_text(
            f"[mdlm.plugins]\n{name} = {value or module + '.plugin'}\n", "utf-8"
        )
        return package

    return install


@pytest.fixture
def mdlm(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m mdlm_core`` in a process that sees `tmp_path` on its path."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MDLM_")}
        path = os.pathsep.join(
            [str(tmp_path), *filter(None, [clean.get("PYTHONPATH")])]
        )
        return subprocess.run(
            [sys.executable, "-m", "mdlm_core", *arguments],
            env={**clean, "PYTHONPATH": path, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run
