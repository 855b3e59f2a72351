"""Descending a method's loss: trainer, checkpoints, frozen reference quantities, preemption, memory."""
