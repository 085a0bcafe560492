"""A run that takes milliseconds: made-up rows, a tiny denoiser, the real rest.

Rows have padding and frozen tokens in different numbers, so that a loss which is not
divided by the free tokens of the whole batch is seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.config.components import PackingConfig, PythonDocsConfig
from mdlm_core.data.batch import Batch
from mdlm_core.data.source import PackedSource
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.tasks import MaskedDiffusion, measure
from mdlm_core.train import train

LENGTH = 8
ROWS = {"train": 20, "validation": 6}


class TinySource:
    """Rows of a few letters; row i of a split is always the same."""

    length = LENGTH

    def __init__(self):
        self.tokenizer = ByteTokenizer()
        self.asked = []

    def size(self, split):
        return ROWS[split]

    def batches(self, split, *, size, seed, start=0, rank=0, world=1):
        self.asked.append((split, start, rank, world))
        index = start
        while True:
            order, epoch = torch.arange(ROWS[split]), 0
            if split == "train":
                epoch, place = divmod(index, ROWS[split] // size)
                keys = Noise(seed).child("order", epoch).uniform(order, 1)[:, 0]
                order = keys.argsort()[place * size : (place + 1) * size]
            else:
                order = order[index * size : (index + 1) * size]
            if not len(order):
                return
            n = len(order)
            mine = order[rank * n // world : (rank + 1) * n // world]
            yield self.rows(split, mine, epoch)
            index += 1

    def rows(self, split, ids, epoch):
        noise = Noise(7).child(split)
        tokens = 97 + (noise.uniform(ids, LENGTH) * 4).long()  # a, b, c, d
        tokens[:, 1::2] = tokens[:, ::2]  # something to learn: pairs
        place = torch.arange(LENGTH)
        pad = place >= LENGTH - (ids % 3)[:, None]
        frozen = place < (ids % 4)[:, None]
        return Batch.of(tokens, pad=pad, frozen=frozen, sample_id=ids, epoch=epoch)

    def card(self):
        split = {"bytes_per_token": 1.0, "sha256": "0" * 64}
        return {"name": "tiny", "eod": False, "splits": {"validation": split}}


class TinyBackbone(nn.Module):
    """Embed, mix neighbours, predict; dropout so that its noise matters."""

    time_conditioned = False

    def __init__(self, vocab_size=258, mask_id=257, width=8, dropout=0.1):
        super().__init__()
        self.vocab_size, self.mask_id = vocab_size, mask_id
        self.gradient_checkpointing = False
        self.dropout = dropout
        self.embed = nn.Embedding(vocab_size, width)
        self.mix = nn.Linear(3 * width, width)
        self.head = nn.Linear(width, vocab_size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden(self, batch, t=None):
        x = self.embed(batch.tokens) * ~batch.pad[..., None]
        near = F.pad(x, (0, 0, 1, 1))
        x = torch.cat([near[:, :-2], x, near[:, 2:]], -1)
        return F.dropout(torch.tanh(self.mix(x)), self.dropout, self.training)

    def logits(self, hidden):
        return self.head(hidden)


class TinyTask:
    """The real module around the tiny backbone."""

    def __init__(self, dropout=0.1):
        self.dropout = dropout

    def build(self, source):
        return MaskedDiffusion(
            TinyBackbone(dropout=self.dropout),
            schedule=LogLinear(),
            policy=UniformMasking(),
        )

    def evaluate(self, module, source):
        bound = measure(module.backbone, source, draws=2, noise=Noise(3))
        return {"loss": bound.nats, "loss_se": bound.nats_se}

    def samples(self, module, source, *, seed):
        return ["a sample"]


SETTINGS = {
    "steps": 12,
    "batch_size": 4,
    "optimizer": "adamw",
    "lr": 0.03,
    "beta2": 0.999,
    "lr_schedule": "constant",
    "warmup": 3,
    "ema": 0.9,
    "weight_decay": 0.01,
    "precision": "fp32",
    "eval_every": 4,
    "save_every": 2,
    "log_every": 1,
    "keep_best": 1,
}


def config(**changes):
    """Return the settings, `train.*` changed; no preset that is tuned matters."""
    values = {**SETTINGS, **changes}
    sets = [f"train.{name}={value}" for name, value in values.items()]
    return resolve(load_catalog(), preset="dit-tiny", sets=sets).config


def run(out, *, resume=False, task=None, source=None, verbose=False, **changes):
    """Train the tiny model and return the outcome."""
    return train(
        config(**changes),
        out=out,
        resume=resume,
        device="cpu",
        source=source or TinySource(),
        task=task or TinyTask(),
        verbose=verbose,
    )


REAL = (
    "model.blocks=2",
    "model.width=32",
    "model.heads=2",
    "model.cond_width=8",
    "data.name=python-docs",
    "data.tokenizer=byte",
    "data.length=32",
    "data.holdout=0.2",
    "data.packing.isolate=true",
    "task.eval_draws=2",
    "task.eval_rows=8",
    "task.sample_count=0",
)

GENTLE = 1e-3
"""A learning rate at which muon, which rounds to bfloat16, amplifies no rounding."""


def real_source():
    """Return packed rows of a few documents, isolated from each other."""
    documents = [
        f"{name} of {index}: {' '.join(str(index * k % 97) for k in range(length))}."
        for index in range(12)
        for name, length in (("powers", 3), ("a longer list of multiples", 20))
    ]
    config = PythonDocsConfig(
        length=32, holdout=0.2, packing=PackingConfig(isolate=True)
    )
    return PackedSource.from_documents(documents, config, card={"name": "python-docs"})


def real_run(out, *, resume=False, source=None, dropout=0.1, **changes):
    """Train a small DiT with muon on packed documents, by the real task."""
    values = {**SETTINGS, "optimizer": "muon", **changes}
    sets = [f"model.dropout={dropout}", *REAL]
    sets += [f"train.{name}={value}" for name, value in values.items()]
    return train(
        resolve(load_catalog(), preset="dit-tiny", sets=sets).config,
        out=out,
        resume=resume,
        device="cpu",
        source=source or real_source(),
    )


def trace(folder):
    """Return the lines of metrics.jsonl without what a clock decides."""
    from mdlm_core.train.metrics import read_metrics

    timed = {"seconds", "tokens_per_second"}
    return [
        {key: value for key, value in line.items() if key not in timed}
        for line in read_metrics(folder / "metrics.jsonl")
    ]
