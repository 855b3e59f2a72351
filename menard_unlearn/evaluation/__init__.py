"""What a model still knows: cutoff, reproduction of the target, utility. Pure functions over tables of scored items."""
