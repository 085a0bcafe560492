"""Every check of this repository. Plain ``nox`` runs what continuous integration runs.

``nox --list`` names the sessions; ``nox -s "tests(core)" -- -k schedule`` runs part of
one. The packages under ``packages/`` are found, not listed: a new one joins by
existing. Everything is installed under ``constraints.txt``. With uv, environments share
the unpacked wheels through its cache; without it, pip does the same work more slowly.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
PLUGINS = [name for name in PACKAGES if name != "mdlm-core"]
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
CONSTRAINTS = str(ROOT / "constraints.txt")
LIGHT = ("pluggy", "pyyaml", "typer", "packaging")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
HEAVY = ("torch", "numpy", "transformers", "datasets", "accelerate", "safetensors")


# ---- what machines differ in ------------------------------------------------


def pass_pip_settings_to_uv() -> None:
    """Tell uv, which reads no pip configuration, where pip finds packages."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        found[key.rpartition(".")[2]] = str(ast.literal_eval(value)).split()
    for key, variable, separator in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_EXTRA_INDEX_URL", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("cert", "SSL_CERT_FILE", " "),
    ):
        if key in found:
            os.environ.setdefault(variable, separator.join(found[key]))
    if "extra-index-url" in found:  # as pip does: the best version of all indexes
        os.environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")


def interpreters() -> dict[str, str]:
    """Return those of `PYTHONS` that this machine has, with their paths."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in PYTHONS:
        candidates = [shutil.which(f"python{version}")]
        candidates += map(str, pyenv.glob(f"versions/{version}.*/bin/python"))
        for path in filter(None, candidates):
            probe = subprocess.run([path, "-c", ""], capture_output=True, check=False)
            if probe.returncode == 0:  # a shim may stand for nothing
                found[version] = path
                break
    return found or {"this": sys.executable}


pass_pip_settings_to_uv()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Small tensors gain little from threads, and threads wait long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# ---- installing -------------------------------------------------------------


def short(package: str) -> str:
    return package.removeprefix("mdlm-")


def source(package: str, extras: str = "") -> str:
    return f"{ROOT / 'packages' / package}{extras}"


def extras_for_tests(package: str) -> str:
    """Return the extras of a package that its tests use, as ``[a,b]``."""
    text = (ROOT / "packages" / package / "pyproject.toml").read_text()
    offered = tomllib.loads(text)["project"].get("optional-dependencies", {})
    wanted = [
        name
        for name in ("hf", "plot", "tensorboard", "testing", "test")
        if name in offered
    ]
    return f"[{','.join(wanted)}]" if wanted else ""


def group(name: str) -> list[str]:
    return nox.project.dependency_groups({"dependency-groups": GROUPS}, name)


def install(session: nox.Session, *what: str) -> None:
    session.install("-c", CONSTRAINTS, *what)


def install_light(session: nox.Session, *what: str) -> None:
    """Install our packages and what the light rooms need, and nothing heavy."""
    install(session, *LIGHT, *what)
    each = [part for name in PACKAGES for part in ("-e", source(name))]
    session.install("--no-deps", *each)


# ---- sessions: quick ones first, then the longest ----------------------------


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, versions and licences."""
    install(session, *group("lint"), "packaging")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "tools/check_versions.py")


@nox.session
def imports(session: nox.Session) -> None:
    """The direction of imports, written down in pyproject.toml."""
    install_light(session, *group("imports"))
    config = Path(session.create_tmp()).resolve() / "importlinter.ini"
    config.write_text(import_contracts())
    session.run("lint-imports", "--config", str(config), "--no-cache")


def import_contracts() -> str:
    """Return the contracts of pyproject.toml, and one of each kind for the plugins."""
    settings = nox.project.load_toml("pyproject.toml")["tool"]["importlinter"]
    contracts = [dict(contract) for contract in settings.pop("contracts")]
    plugins = [name.replace("-", "_") for name in PLUGINS]
    settings["root_packages"] += plugins
    if plugins:
        contracts.append(
            {
                "name": "Core never imports a plugin",
                "type": "forbidden",
                "source_modules": ["mdlm_core"],
                "forbidden_modules": plugins,
            }
        )
        light = [f"{name}.{module}" for name in plugins for module in declared(name)]
        contracts.append(
            {
                "name": "What plugins declare stays light",
                "type": "forbidden",
                "source_modules": light,
                "forbidden_modules": list(HEAVY),
            }
        )
    if len(plugins) > 1:
        contracts.append(
            {
                "name": "Plugins never import each other",
                "type": "independence",
                "modules": plugins,
            }
        )
    sections = {"importlinter": settings}
    sections |= {f"importlinter:contract:{n}": c for n, c in enumerate(contracts)}
    return "".join(f"[{name}]\n{ini(values)}\n" for name, values in sections.items())


def declared(plugin: str) -> list[str]:
    """Return the light modules that a plugin has."""
    folder = ROOT / "packages" / plugin.replace("_", "-") / "src" / plugin
    return [
        name
        for name in ("plugin", "config")
        if (folder / f"{name}.py").exists() or (folder / name).is_dir()
    ]


def ini(values: dict[str, object]) -> str:
    lines = []
    for key, value in values.items():
        text = "\n    ".join(["", *value]) if isinstance(value, list) else f" {value}"
        lines.append(f"{key} ={text}")
    return "\n".join(lines) + "\n"


@nox.session
@nox.parametrize(
    "python", [nox.param(path, id=name) for name, path in interpreters().items()]
)
def light(session: nox.Session) -> None:
    """The light rooms without torch, on every Python that is here."""
    install_light(session, *group("test"))
    tests = [str(path) for path in ROOT.glob("packages/*/tests/light")]
    session.run("python", "-c", "import sys; print(sys.version)")
    session.run("mdlm", "--help", silent=True)
    session.run("mdlm", "plugins", "list")
    session.run("mdlm", "config", "show", silent=True)
    session.run("pytest", *report(session), *tests, *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, *group("types"), "-e", source("mdlm-core", "[hf,testing]"))
    for package in PLUGINS:
        install(session, "-e", source(package))
    for package in PACKAGES:
        session.run("mypy", source(package, "/src"))


@nox.session
def docs(session: nox.Session) -> None:
    """What the pages say is there: hooks, laws, commands, names, code blocks."""
    each = [part for name in PACKAGES for part in ("-e", source(name))]
    install(session, *each)
    write = [option for option in session.posargs if option == "--write"]
    session.run("python", "tools/check_docs.py", *write)


@nox.session
def examples(session: nox.Session) -> None:
    """Every example, each within half a minute on an idle machine."""
    install(session, "-e", source("mdlm-core", "[hf]"))
    for package in PLUGINS:
        install(session, "-e", source(package))
    for path in sorted(ROOT.glob("examples/*.py")):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
            session.run("python", "-W", "error", str(path))
        session.log(f"{path.name} took {time.monotonic() - start:.0f} s")


@nox.session
@nox.parametrize("package", [nox.param(name, id=short(name)) for name in PACKAGES])
def tests(session: nox.Session, package: str) -> None:
    """The tests of one package, with core and that package alone."""
    core = source("mdlm-core", extras_for_tests("mdlm-core"))
    install(session, *group("test"), "-e", core)
    if package != "mdlm-core":
        install(session, "-e", source(package, extras_for_tests(package)))
    session.run("pytest", *report(session), source(package, "/tests"), *session.posargs)


def report(session: nox.Session) -> list[str]:
    """Return the option that keeps the counts, for the last line of tools/test.py."""
    name = "".join(c if c.isalnum() else "-" for c in session.name)
    return [f"--junitxml={ROOT / '.nox' / 'reports' / name}.xml"]


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and sdists, installed into a clean environment and tried there."""
    dist = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    install(session, *group("build"), "hatchling")
    for package in PACKAGES:
        command = ("python", "-m", "build", "--no-isolation", "--outdir", str(dist))
        session.run(*command, source(package), silent=True)
    wheels = sorted(map(str, dist.glob("*.whl")))
    archives = sorted(map(str, dist.glob("*.tar.gz")))
    if len(wheels) != len(PACKAGES) or len(archives) != len(PACKAGES):
        session.error(f"{len(PACKAGES)} packages gave {wheels} and {archives}")
    python = clean_environment(session, *wheels)
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        mdlm = (python, "-m", "mdlm_core")
        session.run(*mdlm, "--help", silent=True, external=True)
        session.run(str(Path(python).parent / "mdlm"), "plugins", "list", external=True)
        session.run(*mdlm, "train", "--tiny", "--out", "run", external=True)
        for plugin in map(short, PLUGINS):
            chosen = ("--plugin", plugin, "--tiny", "--out", plugin)
            session.run(*mdlm, "train", *chosen, external=True)


def clean_environment(session: nox.Session, *what: str) -> str:
    """Install into a new environment beside the session's; return its Python."""
    folder = Path(session.create_tmp()).resolve() / "clean"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "venv", *no_pip(session), str(folder))
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    if session.venv_backend == "uv":
        installer = (nox.virtualenv.UV, "pip", "install", "--python", python)
    else:
        installer = (python, "-m", "pip", "install")
    session.run(*installer, "-q", "-c", CONSTRAINTS, *what, external=True)
    return python


def no_pip(session: nox.Session) -> list[str]:
    return ["--without-pip"] if session.venv_backend == "uv" else []


@nox.session(reuse_venv=False)
def scaffold(session: nox.Session) -> None:
    """A plugin fresh from ``mdlm new-plugin`` keeps the contract, unedited."""
    install(session, *group("test"), "-e", source("mdlm-core", "[testing]"))
    folder = Path(session.create_tmp()).resolve() / "plugins"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    session.run("mdlm", "new-plugin", "haiku", "--into", str(folder))
    haiku = str(folder / "mdlm-haiku")
    session.install("--no-deps", "--force-reinstall", haiku)
    with session.chdir(haiku):
        session.run("mdlm", "plugins", "check", "haiku")
        session.run("mdlm", "train", "--plugin", "haiku", "--tiny", "--out", "../run")
        session.run("pytest", "-W", "error", *report(session), *session.posargs)
