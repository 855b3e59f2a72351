"""Make a language model forget what came after a date, and measure what it still knows."""
