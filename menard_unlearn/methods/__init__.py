"""Unlearning methods: one file is one loss."""
