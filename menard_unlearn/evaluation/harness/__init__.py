"""lm-eval both ways: its tasks as measures of utility, and our own measures as tasks of lm-eval.

lm-eval is an extra; nothing outside this package imports it.
"""
