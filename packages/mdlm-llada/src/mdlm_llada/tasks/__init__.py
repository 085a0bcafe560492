"""The tasks of this package; `mdlm_llada.registry.get_task` finds them by name."""
