"""Write rows of a protein alignment with mdlm-msa, and ask whether they help.

What to look for: an untrained model is a profile of the rows it is shown, and training
goes on from there; new rows keep the columns of the query; the numbers stand beside
rows that need no model. The families are synthetic, so that nothing is downloaded.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.kernels.noise import Noise
from mdlm_core.train import train
from mdlm_core.train.runs import load_run
from mdlm_msa import (
    GenerationConfig,
    check,
    evaluate,
    evaluate_model,
    generate,
    write_alignment,
)

SETTINGS = (
    "data.families=12",
    "data.length=512",
    "data.holdout=0.2",
    "train.steps=60",
    "train.batch_size=4",
    "train.eval_every=60",
    "train.save_every=60",
    "task.eval_rows=8",
    "task.sample_count=0",
)


def main() -> None:
    """Train on families, write rows of one it has not seen, and compare them."""
    catalog = load_catalog()
    config = resolve(catalog, preset="msa/default", sets=SETTINGS).config
    with TemporaryDirectory() as folder:
        train(config, out=Path(folder) / "run", catalog=catalog)
        run = load_run(Path(folder) / "run")
        families = {n: f for n, f in run.source.families.items() if f.whole}
        model, noise = run.backbone, Noise(0)
        table = evaluate_model(model, families, ks=(0, 8), rows=6, draws=2, noise=noise)
        print(table.text())
        family = next(iter(families.values())).alignment
        shown = family.select(np.arange(9))
        made = generate(
            model,
            shown,
            GenerationConfig(rows=24, prompt=8, steps=32),
            schedule=run.schedule,
            length=run.source.length,
        )
        out = Path(folder) / "new.a3m"
        write_alignment(made.alignment, out)
        print("\n".join(out.read_text().splitlines()[:6]))
        print("for ColabFold:", check(out, "colabfold") or "nothing to say")
        found = evaluate(made.alignment, family, noise=noise, prompt=shown)
        for name, line in found.comparison.lines.items():
            print(f"{name:24s} JS {line.js:.3f}  identity {line.identity_mean:.2f}")
        print(found.verdict.words)


if __name__ == "__main__":
    main()
