"""From files to parameters and back: headers, index, layout, reading, saving, verifying."""
