"""The model, one idea a file, in the order in which the course teaches them."""

READING_ORDER = ("norm", "rope", "cache", "attention", "router", "experts", "layer", "transformer")
