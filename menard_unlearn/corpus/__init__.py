"""Dated documents and facts: where they come from, how they are split at the cutoff, how they become batches."""
