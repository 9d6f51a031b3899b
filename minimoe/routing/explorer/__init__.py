"""The routing explorer: linked views of a trace, as a widget and as a page that needs no network."""
