"""The words of the invented persons: which word tells which trait, and which way.

Light: imports nothing heavy. Every word of a pair stands in one pair alone, so that a
word names its column and its side; the frames around them tell nothing.
"""

from __future__ import annotations

from mdlm_personality.traits import TRAITS

Pairs = tuple[tuple[str, str], ...]
"""(the word of a high score, the word of a low score), several times."""

LABEL_TIERS = {
    "optimism": "beliefs",
    "trust": "beliefs",
    "outings": "intentions",
    "exercise": "actions",
    "helping": "actions",
}
"""What is observed of an invented person beside the traits, and its tier."""

COLUMNS = (*TRAITS, *LABEL_TIERS)
"""In the order of every vector of values."""

QUALITIES: dict[str, Pairs] = {
    "openness": (
        ("curious", "conventional"),
        ("creative", "practical"),
        ("artistic", "plain"),
        ("inventive", "habitual"),
        ("poetic", "literal"),
    ),
    "conscientiousness": (
        ("tidy", "messy"),
        ("punctual", "late"),
        ("careful", "careless"),
        ("diligent", "lazy"),
        ("thorough", "sloppy"),
    ),
    "extraversion": (
        ("lively", "quiet"),
        ("outgoing", "reserved"),
        ("talkative", "shy"),
        ("bold", "withdrawn"),
        ("sociable", "solitary"),
    ),
    "agreeableness": (
        ("kind", "harsh"),
        ("gentle", "rude"),
        ("warm", "cold"),
        ("generous", "selfish"),
        ("polite", "blunt"),
    ),
    "neuroticism": (
        ("anxious", "calm"),
        ("tense", "relaxed"),
        ("moody", "steady"),
        ("nervous", "serene"),
        ("fearful", "composed"),
    ),
}
"""What a person is: words for the places {a} and {b} of a frame."""

PASTIMES: dict[str, Pairs] = {
    "openness": (
        ("painting", "counting"),
        ("exploring", "repeating"),
        ("imagining", "copying"),
        ("wondering", "collecting"),
    ),
    "conscientiousness": (
        ("planning", "postponing"),
        ("sorting", "scattering"),
        ("finishing", "forgetting"),
        ("checking", "guessing"),
    ),
    "extraversion": (
        ("dancing", "reading"),
        ("chatting", "listening"),
        ("performing", "hiding"),
        ("partying", "knitting"),
    ),
    "agreeableness": (
        ("sharing", "hoarding"),
        ("comforting", "mocking"),
        ("forgiving", "blaming"),
        ("agreeing", "arguing"),
    ),
    "neuroticism": (
        ("worrying", "resting"),
        ("trembling", "smiling"),
        ("brooding", "unwinding"),
        ("panicking", "shrugging"),
    ),
}
"""What a person does: words for the places {g} and {h} of a frame."""

FRAMES = (
    "I am {a} and {b}.",
    "Still {a}, still {g}.",
    "People find me {a} and {b}.",
    "My friends call me {a} or {b}.",
    "Most days I feel {a} and {b}.",
    "Being {a}, I enjoy {g}.",
    "At work I stay {a} while {g}.",
    "Often I am {g}, always {a}.",
    "My Sundays mean {g} and {h}.",
    "You will see me {g}, rather {a}.",
    "So {a}, and fond of {g}.",
    "Some say {a}, given to {g}.",
)
"""Sentences about a trait, the same ones for each of the five."""

LABEL_WORDS: dict[str, Pairs] = {
    "optimism": (("bright", "bleak"), ("better", "worse"), ("hopeful", "hopeless")),
    "trust": (
        ("honest", "crooked"),
        ("reliable", "treacherous"),
        ("sincere", "deceitful"),
    ),
    "outings": (("hikes", "naps"), ("picnics", "puzzles"), ("concerts", "crosswords")),
    "exercise": (("ran", "sat"), ("swam", "dozed"), ("cycled", "lounged")),
    "helping": (
        ("volunteered", "declined"),
        ("donated", "refused"),
        ("assisted", "ignored"),
    ),
}
"""What tells a label: words for the places {a} and {b} of its frames."""

LABEL_FRAMES: dict[str, tuple[str, ...]] = {
    "optimism": (
        "The future looks {a} and {b}.",
        "I believe tomorrow will be {a}, even {b}.",
    ),
    "trust": (
        "Strangers are {a} and {b}.",
        "I believe people are {a}, even {b}.",
    ),
    "outings": ("Next week I plan {a} and {b}.", "I hope for {a}, then {b}."),
    "exercise": ("This morning I {a} and {b}.", "After lunch I {a}, then {b}."),
    "helping": ("When asked, I {a} and {b}.", "Last week I {a}, then {b}."),
}
"""Sentences about a label."""


def pairs_of(column: str) -> Pairs:
    """Return all pairs that tell `column`."""
    if column in LABEL_WORDS:
        return LABEL_WORDS[column]
    return QUALITIES[column] + PASTIMES[column]


MEANING = {
    word: (column, side)
    for column in COLUMNS
    for pair in pairs_of(column)
    for side, word in zip((1, 0), pair, strict=True)
}
"""For each word the column that it tells, and 1 for a high value or 0 for a low one."""
