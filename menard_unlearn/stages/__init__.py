"""One module a stage: its story from the configuration to the run directory."""
