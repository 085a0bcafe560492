"""Speed and memory against the textbook path, as ratios of one run.

    python tools/bench.py            # everything, about fifteen minutes on one core
    python tools/bench.py step       # one training step
    python tools/bench.py sample     # ancestral sampling, batch 1 and T = 1000
    python tools/bench.py help       # the start of the command line

The textbook path (``packages/mdlm-core/tests/reference.py``) is written as published
code writes it: logits of all positions, dense SUBS, one parameter after the other in
the average. Both sides use the same DiT, so its own gains are not counted. Each
measurement runs in a fresh process, the paths take turns, and a row gives the median
and the spread. Losses are compared before anything is timed.

The shape is 8 blocks, width 256, 4 heads, L = 128, batch 8, V = 50258: 34 M
parameters, three quarters of them embedding and head.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "packages/mdlm-core/tests/reference.py"
V, LENGTH, ROWS, MASK = 50258, 128, 8, 50257
SAMPLE_STEPS = 1000
TUNED = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:"
    "glibc.malloc.trim_threshold=17179869184"
)


# ---- in a fresh process: one path ----------------------------------------------


def build():
    """Return the model, the clean batch and the reference module."""
    import torch

    from mdlm_core.config.components import DiTConfig
    from mdlm_core.data.batch import Batch
    from mdlm_core.kernels.noise import Noise, global_seed
    from mdlm_core.nn import DiT

    spec = importlib.util.spec_from_file_location("reference", REFERENCE)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    with global_seed(Noise(0)):
        model = DiT(
            DiTConfig(blocks=8, width=256, heads=4, dropout=0.0),
            vocab_size=V,
            mask_id=MASK,
            length=LENGTH,
        )
        torch.nn.init.normal_(model.head.weight, std=0.02)
    numbers = Noise(1).uniform(torch.arange(ROWS), LENGTH)
    return model, Batch.of((numbers * (V - 1)).long()), reference


def corrupted_batch(model, batch):
    """Return one fixed noised batch, about half of it hidden."""
    from mdlm_core.diffusion import Draw, LogLinear, corrupt_for_training
    from mdlm_core.kernels.noise import Noise

    return corrupt_for_training(
        batch,
        schedule=LogLinear(),
        draw=Draw(Noise(2), batch.sample_id, ROWS),
        mask_id=model.mask_id,
    )


def step_functions(path, model, batch, reference):
    """Return (loss, update): the two halves of a training step on `path`."""
    import torch

    from mdlm_core.diffusion import masked_cross_entropy
    from mdlm_core.kernels.ema import Ema

    noised = corrupted_batch(model, batch)
    parameters = list(model.parameters())
    if path == "textbook":
        optimizer = torch.optim.AdamW(parameters, lr=3e-4, foreach=False)
        average = reference.Ema(parameters, 0.9999)
        network = reference.network_of(model, batch)
        valid = torch.ones_like(batch.tokens)

        def loss():
            t = noised.t.float()
            return reference.loss(network, batch.tokens, noised.masked, t, valid, MASK)

        def update():
            optimizer.step()
            average.update(parameters)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=3e-4, fused=True)
        average = Ema(model.named_parameters(), 0.9999)

        def loss():
            result = masked_cross_entropy(model, noised)
            return result.total / result.count

        def update():
            optimizer.step()
            average.update()

    for parameter in parameters:  # the optimiser's state belongs to the model
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad()
    return loss, update, optimizer


def work_step(path, dtype, repeats):
    """Time training steps and measure the memory they take above the model."""
    import torch

    model, batch, reference = build()
    loss, update, optimizer = step_functions(path, model, batch, reference)
    before = resident()
    reset_peak()
    seconds, value = [], 0.0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            result = loss()
        result.backward()
        update()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        value = result.item()
    return {"seconds": seconds[1:], "mb": peak() - before, "value": value}


def work_sample(path, dtype, repeats):
    """Time unconditional samples of batch 1."""
    import torch

    from mdlm_core.data.batch import Batch
    from mdlm_core.diffusion import LogLinear
    from mdlm_core.kernels.noise import Noise
    from mdlm_core.samplers import Denoiser, ancestral

    model, _, reference = build()
    model.eval()
    canvas = Batch.of(torch.full((1, LENGTH), MASK))
    seconds, nfe = [], 0
    for repeat in range(repeats):
        start = time.perf_counter()
        with (
            torch.no_grad(),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"),
        ):
            if path == "textbook":
                _, nfe = reference.sample(
                    reference.network_of(model, canvas),
                    canvas.tokens,
                    SAMPLE_STEPS,
                    MASK,
                    torch.Generator().manual_seed(repeat),
                    cache=True,
                )
            else:
                drawn = ancestral(
                    Denoiser(model),
                    canvas,
                    schedule=LogLinear(),
                    noise=Noise(repeat),
                    steps=SAMPLE_STEPS,
                )
                nfe = int(drawn.nfe.sum())
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "value": nfe}


def resident():
    """Return the resident memory in MB."""
    return status("VmRSS")


def peak():
    """Return the most resident memory since `reset_peak`, in MB."""
    return status("VmHWM")


def status(key):
    """Return a line of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def reset_peak():
    """Forget the most resident memory (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


# ---- in the parent: take turns, print ratios -----------------------------------


def measure(work, path, dtype, *, repeats, threads, tuned):
    """Run one path in a fresh process and return what it prints."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    environment.pop("GLIBC_TUNABLES", None)
    if tuned:
        environment["GLIBC_TUNABLES"] = TUNED
    command = [sys.executable, __file__, "--worker", work, path, dtype, str(repeats)]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(work, *, rounds, repeats, threads, tuned):
    """Measure all paths of `work` in turns and print a table."""
    paths = [("textbook", "fp32"), ("ours", "fp32")]
    paths += [("textbook", "bf16")] if work == "step" else []
    paths += [("ours", "bf16")]
    seconds = {path: [] for path in paths}
    last = {}
    for _ in range(rounds):
        for path in paths:
            last[path] = measure(
                work, *path, repeats=repeats, threads=threads, tuned=tuned
            )
            seconds[path] += last[path]["seconds"]
    first, second = last["textbook", "fp32"]["value"], last["ours", "fp32"]["value"]
    if work == "step" and abs(first - second) > 1e-4 * abs(first):
        raise SystemExit(f"the losses differ: {first} and {second}")

    title = {
        "step": "one training step (batch 8, half of the tokens hidden)",
        "sample": f"one sample, batch 1, T = {SAMPLE_STEPS}, against ddpm_cache",
    }
    print(f"\n{title[work]}; {'tuned' if tuned else 'default'} allocator")
    print("| path | dtype | median s | spread s | times faster | MB above | NFE |")
    print("|---|---|---|---|---|---|---|")
    base = statistics.median(seconds["textbook", "fp32"])
    for path, times in seconds.items():
        median = statistics.median(times)
        memory = f"{last[path]['mb']:.0f}" if "mb" in last[path] else ""
        evaluations = last[path]["value"] if work == "sample" else ""
        print(
            f"| {path[0]} | {path[1]} | {median:.3f} | {max(times) - min(times):.3f} | "
            f"{base / median:.1f} | {memory} | {evaluations} |",
            flush=True,
        )


def time_help():
    """Print how long `mdlm --help` takes."""
    command = [sys.executable, "-m", "mdlm_core", "--help"]
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    median, worst = statistics.median(seconds), max(seconds)
    print(f"\nmdlm --help: median {median:.3f} s, slowest of 11 {worst:.3f} s")


def main():
    """Parse the command line and run what it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="all", choices=["all", "step", "sample", "help"]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each path")
    parser.add_argument(
        "--allocator", choices=["default", "tuned", "both"], default="both"
    )
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work, path, dtype, repeats = options.worker
        result = {"step": work_step, "sample": work_sample}[work](
            path, dtype, int(repeats)
        )
        print(json.dumps(result))
        return
    print(f"{options.threads} thread(s); each row from {options.rounds} processes")
    for tuned in (False, True):
        if options.allocator == ("default" if tuned else "tuned"):
            continue
        shared = {"threads": options.threads, "tuned": tuned}
        if options.what in ("all", "step"):
            compare("step", rounds=options.rounds, repeats=3, **shared)
        if options.what in ("all", "sample"):
            compare("sample", rounds=1, repeats=1, **shared)
    if options.what in ("all", "help"):
        time_help()


if __name__ == "__main__":
    main()
