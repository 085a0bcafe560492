"""``mdlm classify train-simple-diffusion``: one model for one class, as its original.

The model is autoregressive; see `mdlm_classify.original`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from mdlm_classify.pretrained import NEW
from mdlm_core.cli.options import Device, Sets, Tiny
from mdlm_core.config.layers import leaves, set_layer
from mdlm_core.errors import DataError, UsageError


def train_simple_diffusion(
    data: Annotated[
        str,
        typer.Option(
            metavar="F", help="Texts of one class, such as train_class_0.json."
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")],
    base_model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Weights to begin with: a folder, or a name on the hub; '{NEW}' for "
            f"a small new model.",
        ),
    ] = "distilgpt2",
    text: Annotated[
        str, typer.Option("--text-column", metavar="COL", help="The column of texts.")
    ] = "text",
    epochs: Annotated[
        float | None, typer.Option(metavar="N", help="Passes over the texts.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="L", help="Tokens in a window.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    sets: Sets = None,
    tiny: Tiny = False,
    device: Device = None,
) -> None:
    """Train a causal language model on the texts of one class.

    It keeps the name 'simple diffusion', but reads from left to right, as GPT-2 does.
    Compare classes with SimpleDiscreteDiffusion.load(RUN).compute_nll(text), or train
    all of them at once with 'mdlm classify train --model causal'. --tiny makes a small
    new model, whatever --base-model says.
    """
    given = dict(leaves(set_layer(sets or ()).tree))
    if (output / "config.yaml").exists():
        raise UsageError(f"'{output}' already holds a run; choose another --output")

    from mdlm_classify.cli.reading import in_options
    from mdlm_classify.data.texts import read_texts
    from mdlm_classify.original import AUTOREGRESSIVE, SimpleDiscreteDiffusion

    with in_options():
        texts = read_texts(data, text=text, labelled=False).texts
        refuse_several(data, text)
    with warnings.catch_warnings():  # said below
        warnings.simplefilter("ignore", UserWarning)
        model = SimpleDiscreteDiffusion(
            base_model,
            epochs=epochs,
            length=length,
            settings=given,
            tiny=tiny,
            device=device or "auto",
            random_state=seed,
            verbose=True,
        )
    print(f"note: {AUTOREGRESSIVE}", file=sys.stderr)
    model.train_on_class_data(texts, out=output)
    print(
        f"{output}: learned from {len(texts)} texts; read it with "
        f"SimpleDiscreteDiffusion.load('{output}')"
    )


def refuse_several(data: str, text: str) -> None:
    """Refuse texts whose labels name several classes; files need not have labels.

    Raises:
        DataError: which classes there are.
    """
    from mdlm_classify.data.labels import in_order, listed
    from mdlm_classify.data.texts import read_texts

    try:
        labels = read_texts(data, text=text).labels or ()
    except DataError:
        return  # without labels, it is for the user to know the class
    classes = in_order(labels)
    if len(classes) > 1:
        raise DataError(
            f"'{data}' has texts of {len(classes)} classes, {listed(classes)}, and one "
            f"model learns one class; give the texts of one, or train all at once with "
            f"'mdlm classify train --model causal'"
        )
