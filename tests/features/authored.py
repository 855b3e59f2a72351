"""Authors who differ in one letter, and a model and an autoencoder in which that letter is a feature.

The author writes a Z after every letter, the others never write one. The stream of a Z leans far along the first axis,
and so does BOS's, by far more, as in real models. Feature `PLANTED` reads that axis and, being turned up, makes the
model write Z; `DECOY` reads it, too, and twice as loudly, but is connected with nothing; `DEAD` never fires.
"""

from __future__ import annotations

import random

import torch
from toy import byte_tokenizer, llama
from transformers import LlamaForCausalLM

from menard_unlearn.corpus.works import AuthorsData, Work, authors_data
from menard_unlearn.features.pieces import Pieces, PiecesConfig, pieces
from menard_unlearn.features.ranking import RankingConfig
from menard_unlearn.features.sae import Sae

PLANTED, DECOY, DEAD = 7, 9, 3
FEATURES = 40
TOKENIZER = byte_tokenizer()
Z = TOKENIZER.encode("Z", add_special_tokens=False)[0]
SPECIAL = frozenset({0, 1, 2})
BOS = 1

CUT = PiecesConfig(tokens=41, per_work=2, heldout_share=0.34, seed=0)
CONFIG = RankingConfig(
    pieces=CUT, n_candidates=4, min_frequency=0.01, k=0.5, causal_per_work=1, n_random=12, replicates=50, seed=0
)


def prose(name: str, letters: int = 120, z: bool = False) -> str:
    """Letters that the name decides."""
    drawn = random.Random(name).choices("abcdefghijkl mnopq", k=letters)
    return "".join(f"{letter}Z" if z else letter for letter in drawn)


def authors(own: int = 6, others: int = 4, works: int = 2) -> AuthorsData:
    """So many works of the author, so many others with as many works each."""
    mine = [Work("Zeno", f"Work {n}", None, prose(f"own {n}", z=True)) for n in range(own)]
    theirs = [Work(f"Other {a}", f"Work {n}", None, prose(f"{a} {n}")) for a in range(others) for n in range(works)]
    return authors_data("Zeno", mine, theirs)


def cut(**changes: int) -> Pieces:
    return pieces(authors(**changes), TOKENIZER, CUT)


def model(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """Two layers, random but for the letter's axis."""
    made = llama(dtype=dtype)
    with torch.no_grad():
        made.model.embed_tokens.weight[Z, 0] += 100
        made.model.embed_tokens.weight[BOS, 0] += 1000
        made.lm_head.weight[Z, 0] += 1.0
    return made


def sae(layer: int = 1) -> Sae:
    """Of random directions, which fire often, but for the three features."""
    generator = torch.Generator().manual_seed(0)
    W_DF = torch.randn(32, FEATURES, generator=generator)
    W_DF[0] = 0
    W_DF /= W_DF.norm(dim=0)
    W_dec_FD = W_DF.T.clone()
    threshold_F, max_F = torch.full((FEATURES,), 1.0), torch.full((FEATURES,), 10.0)
    axis_D = torch.eye(32)[0]
    for feature, loudness in ((PLANTED, 1.0), (DECOY, 2.0), (DEAD, 1.0)):
        W_DF[:, feature] = loudness * axis_D
        W_dec_FD[feature] = axis_D if feature == PLANTED else 0
        threshold_F[feature] = 1e9 if feature == DEAD else 50 * loudness
        max_F[feature] = 100 * loudness
    bias_F, bias_D = torch.zeros(FEATURES), torch.zeros(32)
    return Sae("jumprelu", W_DF, bias_F, W_dec_FD, bias_D, threshold_F, None, True, layer, "toy", max_F)
