"""The exercises, one or more files per chapter; each file lists its exercises as EXERCISES."""
