"""Laws about presets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mdlm_core.catalog import Catalog
from mdlm_core.config import RunConfig, read_run, resolve, to_yaml
from mdlm_core.specs import PresetSpec
from mdlm_core.testing.law import hold, rule


@rule(builds=False)
def resolves(spec: PresetSpec, catalog: Catalog) -> None:
    """The preset resolves, as it is and shrunk by ``--tiny``."""
    resolve(catalog, preset=spec.name)
    resolve(catalog, preset=spec.name, tiny=True)


@rule(builds=False)
def survives_yaml(spec: PresetSpec, catalog: Catalog) -> None:
    """The resolved settings written as YAML and read again are the same."""
    config = resolve(catalog, preset=spec.name).config
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        again = read_run(path, catalog)
    hold(again == config, f"wrote {config}, read {again}")


@rule(costly=True)
def runs_two_tiny_steps(run: RunConfig, catalog: Catalog) -> None:
    """With ``--tiny`` it trains for two steps on a CPU, and is measured."""
    from mdlm_core.train import train

    short = replace(run.train, steps=2, precision="fp32", report_to=())
    with TemporaryDirectory() as folder:
        outcome = train(
            replace(run, train=short),
            out=Path(folder) / "run",
            device="cpu",
            catalog=catalog,
        )
    hold(outcome.step == 2, f"it stopped after {outcome.step} steps")
    hold("loss" in outcome.held_out, f"measured only {sorted(outcome.held_out)}")
