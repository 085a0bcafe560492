"""The original's engine `llada_plus` is the task `llada-sft`; see `mdlm_llada.sft`."""
