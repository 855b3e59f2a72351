"""A study's folder of runs as one page that needs neither network nor account."""
