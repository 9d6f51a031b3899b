"""One token through all layers: the widget of `minimoe.show_token`, and the same as a picture."""
