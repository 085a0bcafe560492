"""Data: text to tokens to batches."""

from .batch import Batch
from .packing import Packed, pack
from .python_docs import python_documents
from .source import PackedSource
from .split import Survey, survey
from .streaming import StreamedSource
from .tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    build_tokenizer,
    load_tokenizer,
)

__all__ = [
    "Batch",
    "ByteTokenizer",
    "CharTokenizer",
    "Packed",
    "PackedSource",
    "StreamedSource",
    "Survey",
    "build_tokenizer",
    "load_tokenizer",
    "pack",
    "python_documents",
    "survey",
]
