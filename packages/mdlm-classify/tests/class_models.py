"""A small model that is told the class, for tests."""

import torch

from mdlm_classify.config import ClassDiTConfig
from mdlm_classify.nn.class_dit import build

V, MASK, L = 12, 11, 6
SIZES = {"blocks": 1, "width": 16, "heads": 2, "cond_width": 8, "dropout": 0.0}


def model(classes=3, *, learned=True, **settings):
    torch.manual_seed(0)  # noqa: TID251
    made = build(
        ClassDiTConfig(**SIZES, **settings), vocab_size=V, mask_id=MASK, length=L
    )
    made.add_classes(classes)
    if learned:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()
