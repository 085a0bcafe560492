"""The models of this plugin in lm-evaluation-harness. Needs the extra ``lm-eval``.

Importing this registers the model ``mdlm``, with the names ``llada_dist`` (LLaDA's own
scripts) and ``llada`` (dLLM's) as aliases. The harness has no way to find models of
other packages, so that its program is started through ours::

    python -m mdlm_llada.lm_eval --model mdlm --tasks gsm8k --model_args model_path=RUN
"""

from __future__ import annotations

from importlib.util import find_spec

from mdlm_core.errors import MissingExtraError

if find_spec("lm_eval") is None:
    raise MissingExtraError(
        "the adapter needs the module 'lm_eval'; install it with: pip install "
        "'mdlm-llada[lm-eval]'"
    )

from .adapter import MaskedDiffusionLM, register

__all__ = ["MaskedDiffusionLM", "register"]

register()
