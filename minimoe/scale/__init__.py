"""From one laptop to many GPUs: placement, parallel and streamed execution."""
