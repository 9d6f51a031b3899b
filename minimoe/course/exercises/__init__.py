"""The exercises, one file a chapter; each lists its own as EXERCISES."""
