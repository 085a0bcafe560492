"""What a run suggests to do next."""

from mdlm_core import load_catalog
from mdlm_core.config import resolve


def test_each_stage_leads_to_the_next() -> None:
    found = {}
    for stage in (1, 2, 3, "all"):
        sets = ["model.encoder=beta-vae", f"task.stage={stage}"]
        config = resolve(load_catalog(), plugin="personality", sets=sets).config
        found[stage] = " ".join(config.task.config.next_steps)
    assert "task.stage=2 --set task.persona_from={run}" in found[1]
    assert "task.stage=3 --set task.persona_from={run}" in found[2]
    assert "counterfactual {run}" in found[3]
    assert found[3] == found["all"]
