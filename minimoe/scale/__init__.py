"""From one laptop to many GPUs: planning, parallel and streamed execution, serving."""
