"""Sparse autoencoders: activations → dictionary → an author's feature → clamp while scoring or generating."""
