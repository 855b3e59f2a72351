"""Where a run's figures go besides its own directory: wandb, or nowhere."""
