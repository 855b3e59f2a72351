"""Models: loading them, scoring with them, running part of them, and storing what changed."""
