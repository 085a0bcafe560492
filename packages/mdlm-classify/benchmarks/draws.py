"""How many draws a decision takes: estimators, common masks, and when to stop.

    mdlm classify train --data train.csv --out RUN
    python packages/mdlm-classify/benchmarks/draws.py RUN --data test.csv --rows 200

The first table has the accuracy and the root mean squared error of the log-ratio of the
two best classes, with S draws of each text, for masks of each class's own, for common
masks, for common masks with sizes drawn by a power law, and for common masks with the
control variate. The second has what deciding costs: rows through the model for a text,
and how often the decision is that of many draws. The measure of both is
`--reference` draws with the control variate and another seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.texts import read_texts
from mdlm_classify.predictor import Predictor
from mdlm_classify.saved import load_classifier
from mdlm_classify.scoring.scores import Scores
from mdlm_core.kernels.noise import Noise

FIXED = ScoringConfig(rule="fixed", start_draws=2, control=0.0)
ESTIMATES = {
    "own masks": replace(FIXED, common=False),
    "common masks": FIXED,
    "common, sizes": replace(FIXED, estimator="sizes"),
    "common, control": replace(FIXED, control=1.0),
}
RULES = {
    "fixed 64": ScoringConfig(rule="fixed", control=0.0),
    "sequential": ScoringConfig(control=0.0),
    "fixed 64, control": ScoringConfig(rule="fixed"),
    "sequential, control (default)": ScoringConfig(),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder of a classifier")
    parser.add_argument("--data", required=True, help="texts with labels")
    parser.add_argument("--text", default="text", help="the column of the text")
    parser.add_argument("--label", default="label", help="the column of the label")
    parser.add_argument("--rows", type=int, default=200, help="texts, drawn at random")
    parser.add_argument("--draws", default="2,4,16,64", help="S, with commas between")
    parser.add_argument("--reference", type=int, default=128, help="draws to go by")
    parser.add_argument("--checkpoint", default="best", help="best, last or a step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    asked = parser.parse_args(arguments)

    classifier = load_classifier(
        asked.run, device=asked.device, checkpoint=asked.checkpoint
    )
    model: Predictor = classifier.model_
    texts = read_texts(asked.data, text=asked.text, label=asked.label)
    order = Noise(0).child("rows").uniform(torch.arange(len(texts)), 1)[:, 0].argsort()
    texts = texts.select(order[: asked.rows].tolist())
    known = [str(label) for label in model.labels]
    truth = torch.tensor([known.index(label) for label in texts.labels or ()])
    documents = model.documents(texts.texts)

    def scores(scoring: ScoringConfig) -> Scores:
        return model.score_documents(documents, scoring=scoring)

    def joint(found: Scores) -> Tensor:
        return found.log_likelihood + model.log_prior

    many = ScoringConfig(
        rule="fixed", max_draws=asked.reference, seed=1_000_003, tokens_at_once=65_536
    )
    reference = joint(scores(many))
    first, second = reference.topk(2, 1).indices.T
    rows = torch.arange(len(truth))

    def row(found: Scores) -> dict[str, float]:
        value = joint(found)
        answer = value.argmax(1)
        wrong = (value - reference)[rows, first] - (value - reference)[rows, second]
        return {
            "accuracy": float((answer == truth).double().mean()),
            "agreement": float((answer == first).double().mean()),
            "rmse": float(wrong.square().mean().sqrt()),
            "evaluations": float(found.evaluations.double().mean()),
        }

    ratio = reference[rows, first] - reference[rows, second]
    result: dict[str, object] = {
        "run": asked.run,
        "texts": len(truth),
        "classes": len(known),
        "tokens": float(scores(ScoringConfig()).tokens.double().mean()),
        "median_log_ratio": float(ratio.median()),
        "reference_accuracy": float((first == truth).double().mean()),
    }
    print(json.dumps(result), flush=True)
    print("\n| estimate | S | accuracy | agreement | RMSE of the log-ratio |")
    print("| --- | --- | --- | --- | --- |")
    estimates: dict[str, dict[str, float]] = {}
    for name, scoring in ESTIMATES.items():
        for draws in map(int, asked.draws.split(",")):
            found = row(scores(replace(scoring, max_draws=draws)))
            estimates[f"{name}, {draws}"] = found
            print(
                f"| {name} | {draws} | {found['accuracy']:.3f} "
                f"| {found['agreement']:.3f} | {found['rmse']:.3g} |",
                flush=True,
            )
    print("\n| rule | rows through the model | times fewer | agreement | accuracy |")
    print("| --- | --- | --- | --- | --- |")
    rules: dict[str, dict[str, float]] = {}
    for name, scoring in RULES.items():
        found = rules[name] = row(scores(scoring))
        fewer = rules["fixed 64"]["evaluations"] / found["evaluations"]
        print(
            f"| {name} | {found['evaluations']:.1f} | {fewer:.1f} "
            f"| {found['agreement']:.3f} | {found['accuracy']:.3f} |",
            flush=True,
        )
    result |= {"estimates": estimates, "rules": rules}
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
