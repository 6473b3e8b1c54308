"""Who doubts it? Verification, rescoring, reproduction, and whether the attack was a strong one."""
