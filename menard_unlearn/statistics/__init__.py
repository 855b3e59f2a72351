"""Pure statistics on numpy arrays: curve fits, bootstraps, tests, AUC. Knows nothing of models, files or configuration.

Legend of shape suffixes: R bootstrap replicates, K strata, Y years, F facts (clusters of probes), G grid points,
S starts, P parameters. A cell is a year of a stratum.
"""
