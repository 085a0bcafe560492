"""Complementary masks: the mirror image of a generator's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdlm_core.kernels.noise import Noise


@dataclass(frozen=True, slots=True)
class MirroredNoise(Noise):
    """A generator whose numbers are 1 - u where the other one's are u.

    A token is hidden if its number is below the mask rate p. With the numbers u of one
    mask and 1 - u of the other, a token is hidden in at least one of them with
    probability min(1, 2 p), and no two masks overlap less (MIRROR, arXiv 2511.18159).

    Generators below it are those of the other one: a masking policy that draws
    numbers of its own draws the same ones for both masks.
    """

    @classmethod
    def of(cls, noise: Noise) -> MirroredNoise:
        """Return the mirror image of `noise`."""
        return cls(noise.seed, noise.path)

    def uniform(self, rows: Tensor, columns: int | Tensor) -> Tensor:
        """Return 1 - u, which is exact: see `Noise.uniform`."""
        return 1 - Noise.uniform(self, rows, columns)
