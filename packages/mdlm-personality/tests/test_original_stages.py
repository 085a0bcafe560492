"""The original's three scripts, one after the other, each on the run before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from mdlm_personality import CausalMDLM
from mdlm_personality.train_causal_mdlm import train_causal_mdlm
from mdlm_personality.train_stage1 import train_stage1
from mdlm_personality.train_stage2 import train_stage2

QUICK = ("--tiny", "--device", "cpu", "--data.authors=24", "--latent_dim", "20")


def call(command: object, *arguments: str) -> None:
    app = typer.Typer()
    free = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=free)(command)  # type: ignore[arg-type]
    found = CliRunner().invoke(app, [*QUICK, *arguments])
    assert found.exit_code == 0, f"{found.output}\n{found.exception!r}"


def persona(run: Path, weights: str) -> dict[str, torch.Tensor]:
    model = CausalMDLM.from_pretrained(run, device="cpu", weights=weights)
    return {name: t.clone() for name, t in model.persona.state_dict().items()}


def test_stages_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call(train_stage1)
    first = Path("experiments/stage1_personality_encoder")
    call(train_stage2, "--encoder_path", str(first / "best_model.pt"))
    second = Path("experiments/stage2_causal_scm")
    third = Path("experiments/causal_mdlm")
    call(
        train_causal_mdlm,
        "--causal_vae_path",
        str(second / "best_model.pt"),
        "--freeze_causal_vae",
        "--output_dir",
        str(third),
    )
    learned = persona(first, "ema")  # a stage takes the averages of the one before
    kept = persona(second, "raw")
    encoder = [name for name in learned if name.startswith("encoder.")]
    assert encoder
    for name in encoder:  # stage 2 leaves it
        assert torch.equal(learned[name], kept[name]), name
    assert not torch.equal(learned["layer.weight"], kept["layer.weight"])
    frozen = persona(third, "raw")
    for name, tensor in persona(second, "ema").items():
        assert torch.equal(tensor, frozen[name]), name
    model = CausalMDLM.from_pretrained(third, device="cpu")
    assert model.generate([[0.8, 0.6, 0.7, 0.9, 0.3]], 8).shape == (1, 8)
