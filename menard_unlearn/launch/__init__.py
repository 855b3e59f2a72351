"""Sweeps: what is to be run, where each run stands, and how jobs are started, here or on a cluster."""
