"""`CausalMDLM`: a trained run behind the original's methods.

Letters: B personas, L tokens of a text, n nodes of the causal layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.errors import UsageError
from mdlm_core.train.checkpoint import MODEL, write_checkpoint
from mdlm_core.train.folder import RunFolder
from mdlm_core.train.state import collect, named_tensors

from .config import GuidanceConfig
from .generation.counterfactual import Pair, counterfactual_pair
from .generation.long import generate_sar
from .generation.personas import Values
from .generation.writing import Manner, generate, shown
from .original_flags import run_of
from .persona import Persona
from .saved import Trained, load

Node = int | str
"""A node: a trait by its place, or any node by its place or name."""


class Sampling:
    """``config.sampling``: how texts are written.

    Setting what does not exist raises at once.
    """

    def __init__(self, name: str, steps: int, catalog: Catalog) -> None:
        self._name = name
        self._steps = steps
        self._catalog = catalog

    @property
    def predictor(self) -> str:
        """The sampler: ddpm, ddpm_cache, analytic, or another of `mdlm list sampler`.

        ddpm and ddpm_cache are one law, the reverse process, here in one form.

        Raises:
            UnknownNameError: when it is set to a name that no sampler has.
        """
        return self._name

    @predictor.setter
    def predictor(self, name: str) -> None:
        self._catalog.component("sampler", name)
        self._name = name

    @property
    def steps(self) -> int:
        """T, unless a call says otherwise."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if steps < 1:
            raise UsageError(f"sampling.steps is {steps}; at least 1")
        self._steps = steps


class SamplingConfig:
    """``model.mdlm.config``."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling


class Diffusion:
    """``model.mdlm``: the transformer, and how it samples."""

    def __init__(self, trained: Trained) -> None:
        sampler = trained.run.config.sampler
        steps = int(getattr(sampler.config, "steps", 256))
        self.backbone = trained.backbone
        self.config = SamplingConfig(Sampling(sampler.name, steps, trained.run.catalog))


class CausalMDLM(nn.Module):
    """A trained model that writes texts of personas, and of changed ones.

    Example:
        >>> model = CausalMDLM.from_pretrained("runs/personality-1")  # doctest: +SKIP
        >>> persona = torch.tensor([[0.8, 0.6, 0.7, 0.9, 0.3]])
        >>> ids = model.generate(persona, seq_len=64)  # doctest: +SKIP
        >>> ids = model.generate(
        ...     persona, intervention_dim=2, intervention_value=0.2
        ... )  # doctest: +SKIP
        >>> model.decode(ids)  # doctest: +SKIP
    """

    def __init__(self, trained: Trained) -> None:
        """Take over a trained model."""
        super().__init__()
        self.trained = trained
        self.backbone = trained.backbone
        self.mdlm = Diffusion(trained)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, path: Path | str, *, device: str = "auto", weights: str = "ema"
    ) -> Self:
        """Load a run folder, or a checkpoint in one.

        Args:
            path: ``RUN`` or ``RUN/checkpoints/step-00000500``; ``RUN/anything.ckpt``
                is the best checkpoint, ``RUN/last.ckpt`` the last.
            device: "auto" takes a GPU if there is one.
            weights: "ema" or "raw".

        Raises:
            UsageError: if there is no run, or it knows no personas.
            CheckpointError: if the checkpoint is damaged or not there.
        """
        run, checkpoint = run_of(path)
        return cls(load(run, device=device, weights=weights, checkpoint=checkpoint))

    load_from_checkpoint = from_pretrained
    """The name that Lightning has for it."""

    @property
    def persona(self) -> Persona:
        """The encoder and the causal layer: the original's CausalVAE."""
        return self.trained.persona

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.trained.device)

    # ---- writing -----------------------------------------------------------------

    def generate(
        self,
        personality: Values | Sequence[Values],
        seq_len: int = 128,
        guidance_scale: float = 2.0,
        intervention_dim: Node | None = None,
        intervention_value: float | None = None,
        num_steps: int | None = None,
        *,
        prompt: str = "",
        seed: int = 0,
        **settings: Any,
    ) -> Tensor:
        """Write a text of each persona.

        An intervention is a counterfactual: the persona keeps its noise, the node is
        set, and what depends on it moves.

        Args:
            personality: ``(B, 5)`` traits in [0, 1], in `TRAITS` order; rows may be
                lists with None for a trait that is not known.
            seq_len: L.
            guidance_scale: gamma: 1 is the law given the persona, 0 that without one.
            intervention_dim: the node to set: 2 or "extraversion"; from 5 on the other
                nodes of the causal layer.
            intervention_value: its value: a trait's in [0, 1], a label's in its units,
                a latent node's in standard deviations.
            num_steps: T; as in ``mdlm.config.sampling`` if not given.
            prompt: a beginning, or a text with blanks.
            seed: decides every draw.
            settings: of the sampler, such as `temperature` and `top_p`.

        Returns:
            ``(B, L)`` ids; see `decode`.

        Raises:
            UsageError: if a value is out of range, or only one half of an intervention
                is given.
            UnknownNameError: if there is no such node.
        """
        return generate(
            self.trained,
            personality,
            do=self._do(intervention_dim, intervention_value),
            length=seq_len,
            prompt=prompt,
            seed=seed,
            guidance=GuidanceConfig(scale=guidance_scale),
            manner=self._manner(num_steps, settings),
        ).tokens

    def counterfactual(
        self,
        personality: Values | Sequence[Values],
        intervention_dim: Node,
        intervention_value: float,
        seq_len: int = 128,
        guidance_scale: float = 2.0,
        num_steps: int | None = None,
        *,
        prompt: str = "",
        seed: int = 0,
        **settings: Any,
    ) -> Pair:
        """Write a text of each persona and what it would be, with the same noise.

        The arguments are those of `generate`.
        """
        return counterfactual_pair(
            self.trained,
            personality,
            self._do(intervention_dim, intervention_value) or {},
            length=seq_len,
            prompt=prompt,
            seed=seed,
            guidance=GuidanceConfig(scale=guidance_scale),
            manner=self._manner(num_steps, settings),
        )

    def generate_sar(
        self,
        personality: Values | Sequence[Values],
        total_length: int = 2048,
        stride_length: int | None = None,
        guidance_scale: float = 2.0,
        intervention_dim: Node | None = None,
        intervention_value: float | None = None,
        num_steps: int | None = None,
        *,
        seed: int = 0,
        **settings: Any,
    ) -> Tensor:
        """Write long texts, window after window, ``(B, total_length)`` ids.

        Args:
            personality: see `generate`.
            total_length: tokens of a text.
            stride_length: new tokens of each window after the first, at most one less
                than a window has, which is as long as the rows of training; the rest
                of the window is what was written before. Half a window if not given.
            guidance_scale: see `generate`.
            intervention_dim: see `generate`.
            intervention_value: see `generate`.
            num_steps: T of each window.
            seed: decides every draw.
            settings: of the sampler.
        """
        if stride_length is None:
            stride_length = max(1, self.trained.length // 2)
        return generate_sar(
            self.trained,
            personality,
            total_length=total_length,
            stride_length=stride_length,
            do=self._do(intervention_dim, intervention_value),
            seed=seed,
            guidance=GuidanceConfig(scale=guidance_scale),
            manner=self._manner(num_steps, settings),
        ).tokens

    def decode(self, ids: Tensor) -> list[str]:
        """Return the texts of ids ``(B, L)``, a new line where one ends."""
        return [shown(self.trained.tokenizer, row) for row in ids.tolist()]

    # ---- files -------------------------------------------------------------------

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write a run folder with the weights as they are; it must be empty.

        It holds one checkpoint, from which training cannot be resumed.

        Raises:
            UsageError: if there is something in `folder`.
        """
        path = Path(folder)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"'{path}' is not empty; choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        run, new = self.trained.run, RunFolder(path)
        old = RunFolder(run.folder)
        tensors = collect(named_tensors(run.module))
        state = {"score": None, "length": self.trained.length}
        write_checkpoint(new.checkpoints, run.step, {MODEL: tensors}, state)
        self.trained.tokenizer.save(new.tokenizer)
        if old.data.is_file():
            shutil.copyfile(old.data, new.data)
        shutil.copyfile(old.config, new.config)
        return path

    # ---- inside ------------------------------------------------------------------

    def _do(self, dim: Node | None, value: float | None) -> Mapping[str, float] | None:
        if dim is None and value is None:
            return None
        if dim is None or value is None:
            raise UsageError(
                "intervention_dim and intervention_value go together: give both, or "
                "neither"
            )
        names = self.persona.node_names
        if isinstance(dim, str):
            return {names[self.persona.node(dim)]: float(value)}
        if isinstance(dim, bool) or not 0 <= dim < len(names):
            raise UsageError(
                f"intervention_dim is {dim}; the nodes are 0 to {len(names) - 1}, the "
                f"first five the traits"
            )
        return {names[dim]: float(value)}

    def _manner(self, num_steps: int | None, settings: Mapping[str, Any]) -> Manner:
        sampling = self.mdlm.config.sampling
        steps = sampling.steps if num_steps is None else num_steps
        given = {"name": sampling.predictor, "steps": steps, **settings}
        return Manner.of(self.trained, **given)
