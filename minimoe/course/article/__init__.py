"""An article about Qwen3-235B-A22B, claim by claim: its claims, the numbers that decide them, a corrected text."""
