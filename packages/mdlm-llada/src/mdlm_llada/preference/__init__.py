"""Learning from preferred answers (VRPO) and from rewards (diffu-GRPO)."""
