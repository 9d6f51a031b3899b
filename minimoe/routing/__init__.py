"""Which experts were selected: recording, statistics and figures."""
