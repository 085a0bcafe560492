"""``mdlm classify sample``: texts of a class, and blanks filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Out, Sets
from mdlm_core.config import read_run
from mdlm_core.errors import UsageError

from .given import masked_diffusion, write_text
from .options import Checkpoint, Run, Weights, check_out, open_run, say

if TYPE_CHECKING:
    from mdlm_classify.filling import Filled
    from mdlm_classify.predictor import Predictor
    from mdlm_core.samplers import Texts


def sample(
    run: Run,
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="A",
            help="Of which class; default: the most probable one for the prompt, or "
            "each in turn.",
        ),
    ] = None,
    num: Annotated[int, typer.Option(metavar="N", help="How many texts.")] = 1,
    length: Annotated[
        int | None,
        typer.Option(metavar="L", help="Tokens in a text; default: as in training."),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="How it begins; ____ is a blank to fill, ____{12} one of 12 tokens.",
        ),
    ] = "",
    guidance: Annotated[
        float,
        typer.Option(
            metavar="G", help="How much more of the class than of none; 1 is as it is."
        ),
    ] = 1.0,
    against: Annotated[
        str | None,
        typer.Option(metavar="B", help="A class to guide away from, instead of none."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One of 'mdlm list sampler'."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="T", help="Steps of the sampler.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0 takes the most probable token.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Probability that is kept.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Tokens that are kept.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    out: Out = None,
    sets: Sets = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "ema",
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write texts of a class, or fill in the blanks of a text and say its class.

    With a prompt and no --class the model first says which class the known words speak
    for, and then fills in the rest under it.
    """
    check_out(out)
    if num < 1:
        raise UsageError(f"--num is {num}; it must be at least 1")
    if label is not None and label == against:
        raise UsageError(
            f"--class and --against are both '{label}': the two are the same, so that "
            f"there is nothing to guide away from; name another class"
        )
    if against is not None and guidance == 1:
        say("note: --against has no effect with guidance 1; give --guidance, such as 2")
    flags = {
        "name": sampler,
        "steps": steps,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
    }
    catalog = load_catalog(*(imports or ()))
    config = read_run(run, catalog, sets=sampler_sets(sets, flags)).sampler
    opened = open_run(
        run,
        checkpoint=checkpoint,
        weights=weights,
        device=device,
        imports=imports or (),
    )
    predictor = masked_diffusion(opened.classifier, run, "sample")
    found = _samples(
        predictor,
        label=label,
        num=num,
        length=_length(length, prompt, opened.classifier, predictor),
        prompt=prompt,
        guidance=guidance,
        against=against,
        seed=seed,
        sampler=catalog.build("sampler", config),
        config=config.config,
    )
    known = found.get("posterior")
    if known is not None:
        say("what is known speaks for " + ", ".join(_shares(known)))
    facts = {
        "run": str(run),
        "prompt": prompt,
        "guidance": guidance,
        "against": against,
        "seed": seed,
        **found,
    }
    if as_json:
        body = json.dumps(facts, ensure_ascii=False, indent=1)
    else:
        body = "\n".join(f"[{row['class']}] {row['text']}" for row in found["samples"])
    if out is not None:
        write_text(out, body + "\n")
        say(f"{out}: {num} texts")
    else:
        print(body)


def sampler_sets(sets: list[str] | None, flags: dict[str, Any]) -> list[str]:
    """Return what ``--set`` and the flags say about the sampler.

    Raises:
        UsageError: if something else is set.
    """
    for text in sets or ():
        if not text.strip().startswith(("sampler.", "sampler=")):
            raise UsageError(
                f"--set {text}: of a finished run only the sampler can be set, such as "
                f"--set sampler.steps=64"
            )
    given = [
        f"sampler.{key}={value}" for key, value in flags.items() if value is not None
    ]
    return [*(sets or ()), *given]


def _samples(
    predictor: Predictor, *, label: str | None, prompt: str, num: int, **given: Any
) -> dict[str, Any]:
    """Return the samples, and the posterior of the prompt if it decides the class."""
    from mdlm_classify.filling import fill_in
    from mdlm_classify.nn.condition import NULL
    from mdlm_classify.sample import class_of, sample_class

    labels = predictor.labels
    found: Filled | Texts
    facts: dict[str, Any] = {}
    if label is None and prompt.strip():
        found = fill_in(predictor, prompt, num=num, **given)
        names = [found.label] * num
        facts["posterior"] = dict(zip(labels, found.posterior.tolist(), strict=True))
    else:
        names = [label or labels[row % len(labels)] for row in range(num)]
        against = given.pop("against")
        found = sample_class(
            predictor.backbone,
            predictor.tokenizer,
            schedule=predictor.schedule,
            label=[class_of(name, labels) for name in names],
            against=NULL if against is None else class_of(against, labels),
            num=num,
            prompt=prompt,
            **given,
        )
    rows = zip(
        names, found.texts, found.tokens.tolist(), found.nfe.tolist(), strict=True
    )
    facts["samples"] = [
        {"class": name, "text": text, "tokens": tokens, "nfe": nfe}
        for name, text, tokens, nfe in rows
    ]
    return facts


def _length(
    given: int | None, prompt: str, classifier: Any, predictor: Predictor
) -> int | None:
    """Return the length of the canvas: as asked for, as the prompt, or as trained."""
    from mdlm_core.samplers.canvas import has_open_end

    if given is not None:
        if given > predictor.length:
            say(f"note: the model was trained on rows of {predictor.length} tokens")
        return given
    if not has_open_end(prompt):
        return None
    split = classifier.trained_.data.get("splits", {}).get("train", {})
    texts, tokens = split.get("texts"), split.get("tokens")
    mean = round(tokens / texts) if texts and tokens else predictor.length
    known = len(predictor.tokenizer.encode(prompt)) if prompt else 0
    return max(min(mean, predictor.length), min(2 * known, predictor.length), 1)


def _shares(posterior: dict[str, float]) -> list[str]:
    pairs = sorted(posterior.items(), key=lambda pair: -pair[1])[:5]
    return [f"{label} {share:.1%}" for label, share in pairs]
