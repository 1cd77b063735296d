import numpy as np


def greedy(logits_SxV, alphabet):
    ids = np.asarray(logits_SxV).argmax(-1)
    keep = np.concatenate([[True], ids[1:] != ids[:-1]]) & (ids != 0) if len(ids) else []
    return " ".join(alphabet.decode(ids[keep]).split())
