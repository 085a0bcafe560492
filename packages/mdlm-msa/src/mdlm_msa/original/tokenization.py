"""MSAGPT's tokenizer by its name."""

from __future__ import annotations

from collections.abc import Sequence

from mdlm_msa.tokenizer import AlignmentTokenizer


class ProteinGLMTokenizer(AlignmentTokenizer):
    """The tokenizer of alignments with MSAGPT's names for what it does."""

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of `text`, without special tokens."""
        return self.encode(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids; rows are parted by ``<M>``."""
        return self.decode(ids)


def proteinglm_tokenizer() -> ProteinGLMTokenizer:
    """Return the tokenizer."""
    return ProteinGLMTokenizer()
