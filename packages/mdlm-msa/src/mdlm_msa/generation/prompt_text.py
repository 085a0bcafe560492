"""The text form of a prompt, ``QUERY<M>ROW<M>ROW``."""

from __future__ import annotations

import numpy as np

from mdlm_core.errors import UsageError
from mdlm_msa.alignment import Alignment
from mdlm_msa.formats.letters import NUCLEOTIDES, like_nucleotides
from mdlm_msa.tokenizer import DELIMITER, AlignmentTokenizer


def read_prompt(text: str) -> Alignment:
    """Return the alignment that a prompt says.

    Blanks are dropped, and so is a separator at the end. Lower case is read as upper
    case; `notes` say so.

    Raises:
        DataError: if a letter has no id.
        UsageError: if the query is empty, or a row has not as many letters as it.
    """
    text = text.replace(DELIMITER.lower(), DELIMITER)
    lower = sum("a" <= letter <= "z" for letter in text)
    text = text.encode().upper().decode()  # of ASCII letters alone
    texts = text.strip().removesuffix(DELIMITER).split(DELIMITER)
    tokenizer = AlignmentTokenizer()
    tokenizer.encode_array(DELIMITER.join(texts))  # says which row is wrong
    rows = [tokenizer.encode_array(row) for row in texts]
    if not len(rows[0]):
        raise UsageError("the query is empty; write QUERY or QUERY<M>ROW<M>ROW")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise UsageError(
                f"row {number} has {len(row)} letters and the query {len(rows[0])}; "
                f"every row has the query's columns, with - for what it lacks"
            )
    headers = ("query", *(f"row {i}" for i in range(2, len(rows) + 1)))
    notes = {
        "letters of lower case read as upper case": lower,
        NUCLEOTIDES: like_nucleotides(texts[0].encode()),
    }
    notes = {what: count for what, count in notes.items() if count}
    return Alignment(rows=np.stack(rows), headers=headers, name="query", notes=notes)
