"""CTC prefix beam search in compiled loops: the surviving texts, and the sums over their alignments.

A text is a node in a tree of labels without outer and repeated spaces. The order of all operations depends only on the
logits, so equal input gives equal output. (All in one module: a cached compiled function does not notice changes in
functions it calls from other modules.)
"""

import math

import numpy as np

from w2l_jax.alphabet import BLANK
from w2l_jax.lm.compiled import compiled
from w2l_jax.lm.lexicon import OUTSIDE, ROOT

# A beam: `node` is its text, `last` the text's last label (at the start the space, -1 without one), `prefix` its
# unfinished word in the lexicon (ROOT between words), `state` the language model's state after the finished words,
# `words` their score; `blank` and `label` are log P of the alignments that end in a blank and in `last`, `acoustic` of
# both; `ahead` is the best score of the unfinished word (0 between words), `end_score` and `end_state` are those if it
# ends here (state -1: unknown).
_LABELS = [(name, "i4") for name in ("node", "last", "prefix", "state", "end_state")]
BEAM = np.dtype([*_LABELS, *((name, "f8") for name in ("blank", "label", "acoustic", "words", "ahead", "end_score"))])
# `child` and `sibling` link the nodes one label longer, `beam` is the beam at this node; -1 is none.
_NODE = np.dtype([(name, "i4") for name in ("parent", "label", "child", "sibling", "beam")])
_GROWN = np.dtype([("beam", "i4"), ("label", "i4"), ("prefix", "i4"), ("acoustic", "f8"), ("ahead", "f8")])

Front = tuple[np.ndarray, np.ndarray, int]
"""Beams, nodes, and how many nodes are used."""


def begin(space: int) -> Front:
    """Returns the front before the first frame: the empty text. `space` is the space's label, -1 without one."""
    nodes, beams = np.zeros(2**12, _NODE), np.zeros(1, BEAM)
    nodes[0] = (-1, space, -1, -1, 0)
    beams[0] = (0, space, ROOT, 0, 0, 0.0, -math.inf, 0.0, 0.0, 0.0, 0.0)
    return beams, nodes, 1


@compiled
def advance(
    log_probs_SxV: np.ndarray, frame: int, front: Front, lexicon: tuple[np.ndarray, ...], limits: tuple[int, int, float]
) -> tuple[int, Front, np.ndarray]:
    """Searches from `frame` until it needs the scores of words that end there.

    Args:
      log_probs_SxV: log-probabilities, -inf for labels not to try.
      frame, front: as the last call returned them, or 0 and what `begin` returned.
      lexicon: a Tree's arrays, its `bounds`, and the score of each finished word [W] without context.
      limits: the space's label, the maximum number of beams, and their largest distance from the best.

    Returns:
      The frame and the front reached; the beams whose `end_state` and `end_score` are needed, none at the end.
    """
    beams, nodes, used = front
    space, width, margin = limits
    first_N, label_N, word_N, bound_N, most_W = lexicon
    while frame < len(log_probs_SxV):
        probs_V = log_probs_SxV[frame]
        labels = np.flatnonzero(probs_V > -np.inf)
        room = len(beams) * (len(labels) + 1)
        if used + room > len(nodes):
            nodes, used = _without_dead_ends(nodes, used, beams, room)
        grown, scores = np.empty(room, _GROWN), np.empty(room)
        stays, taken_BxV = _stay(beams, nodes, probs_V, space, scores)
        old_scores = scores[: len(beams)]
        cut = max(old_scores.max() - margin, old_scores.min() if len(beams) >= width else -np.inf)
        if space >= 0 and probs_V[space] > -np.inf:
            ending = _ending(beams, taken_BxV[:, space], probs_V[space], word_N, most_W, cut)
            if len(ending):
                return frame, (beams, nodes, used), ending
        count = _grow(beams, taken_BxV, probs_V, labels, space, first_N, label_N, bound_N, cut, grown, scores)
        keep = _best(scores[:count], width, margin)
        beams, used = _survivors(beams, stays, grown, keep, nodes, used, space)
        frame += 1
    return frame, (beams, nodes, used), np.empty(0, np.int64)


@compiled
def _stay(beams, nodes, probs_V, space, scores):
    """The beams after a frame that keeps their texts or extends a shorter beam's text to theirs.

    Fills in their scores; returns [B, V] which beams and labels lead to one of them.
    """
    stays, taken_BxV = beams.copy(), np.zeros((len(beams), len(probs_V)), np.bool_)
    for i in range(len(beams)):
        old, new = beams[i], stays[i]
        last, parent = old["last"], nodes[old["node"]]["parent"]
        new["blank"], new["label"] = old["acoustic"] + probs_V[BLANK], -np.inf
        if last >= 0:
            new["label"] = (old["acoustic"] if last == space else old["label"]) + probs_V[last]
        if parent >= 0 and nodes[parent]["beam"] >= 0:
            number = nodes[parent]["beam"]
            new["label"] = np.logaddexp(new["label"], _before(beams[number], last) + probs_V[last])
            taken_BxV[number, last] = True
        new["acoustic"] = np.logaddexp(new["blank"], new["label"])
        scores[i] = new["acoustic"] + new["words"] + new["ahead"]
    return stays, taken_BxV


@compiled
def _before(beam, label):
    """Log P of the alignments that `label` extends: between two equal labels there must be a blank."""
    return beam["blank"] if label == beam["last"] else beam["acoustic"]


@compiled
def _ending(beams, taken_B, prob, word_N, most_W, cut):
    """The beams whose word might reach `cut` if it ended in this frame, but has no score yet."""
    most_B = beams["acoustic"] + prob + beams["words"] + most_W[word_N[beams["prefix"]]]
    return np.flatnonzero((beams["end_state"] < 0) & ~taken_B & (most_B >= cut))


@compiled
def _grow(beams, taken_BxV, probs_V, labels, space, first_N, label_N, bound_N, cut, grown, scores):
    """Adds the new texts that reach `cut` to `grown` and `scores`; returns the number of all scores."""
    count = len(beams)
    for i in range(len(beams)):
        beam = beams[i]
        for label in labels:
            if label == BLANK or taken_BxV[i, label]:
                continue
            acoustic, prefix, ahead = _before(beam, label) + probs_V[label], ROOT, 0.0
            score = acoustic + beam["words"]
            if label == space:
                if beam["prefix"] == ROOT or beam["end_state"] < 0:
                    continue
                score += beam["end_score"]
            elif score + bound_N[beam["prefix"]] >= cut:
                prefix = _child(first_N, label_N, beam["prefix"], label)
                ahead = bound_N[prefix]
                score += ahead
            else:
                continue
            if score >= cut and score > -np.inf:
                new = grown[count - len(beams)]
                new["beam"], new["label"], new["prefix"] = i, label, prefix
                new["acoustic"], new["ahead"], scores[count] = acoustic, ahead, score
                count += 1
    return count


@compiled
def _child(first_N, label_N, node, label):
    """The prefix that extends the lexicon's `node` by `label`."""
    at = np.searchsorted(label_N[first_N[node] : first_N[node + 1]], label) + first_N[node]
    return at if at < first_N[node + 1] and label_N[at] == label else OUTSIDE


@compiled
def _best(scores, width, margin):
    """Indices of the `width` best scores within `margin` of the best, in order; ties go to the first."""
    keep = np.flatnonzero((scores >= scores.max() - margin) & (scores > -np.inf))
    if len(keep) <= width:
        return keep
    last = _ranked(scores[keep], width)
    count, spare = 0, width - np.sum(scores[keep] > last)
    for i in keep:
        if scores[i] > last or (scores[i] == last and spare > 0):
            spare -= scores[i] == last
            keep[count] = i
            count += 1
    return keep[:count]


@compiled
def _ranked(values, rank):
    """The value of this rank, 1 for the largest; reorders `values`."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if j < rank - 1 < i:
            break
        low, high = (low, j) if rank - 1 <= j else (i, high)
    return values[rank - 1]


@compiled
def _survivors(beams, stays, grown, keep, nodes, used, space):
    """The beams in `keep`, with nodes for their texts; and the number of nodes used."""
    out = np.empty(len(keep), BEAM)
    for i in range(len(beams)):
        nodes[beams[i]["node"]]["beam"] = -1
    for i in range(len(keep)):
        if keep[i] < len(beams):
            out[i] = stays[keep[i]]
        else:
            more, new = grown[keep[i] - len(beams)], out[i]
            out[i] = beams[more["beam"]]
            new["node"], used = _node(nodes, used, new["node"], more["label"])
            new["last"], new["prefix"], new["ahead"] = more["label"], more["prefix"], more["ahead"]
            new["blank"], new["label"], new["acoustic"] = -np.inf, more["acoustic"], more["acoustic"]
            if more["label"] == space:
                new["words"], new["state"], new["end_score"] = new["words"] + new["end_score"], new["end_state"], 0.0
            else:
                new["end_state"] = -1
        nodes[out[i]["node"]]["beam"] = i
    return out, used


@compiled
def _node(nodes, used, parent, label):
    """The node that extends `parent` by `label`, new if necessary; and the number of nodes used."""
    node = nodes[parent]["child"]
    while node >= 0 and nodes[node]["label"] != label:
        node = nodes[node]["sibling"]
    if node >= 0:
        return node, used
    nodes[used] = nodes[parent]
    new = nodes[used]
    new["parent"], new["label"], new["child"], new["beam"] = parent, label, -1, -1
    new["sibling"], nodes[parent]["child"] = nodes[parent]["child"], used
    return used, used + 1


@compiled
def _without_dead_ends(nodes, used, beams, room):
    """The nodes on the paths to the beams, renumbered, with `room` for more; renumbers `beams` too."""
    new_N = np.full(used, -1)
    for i in range(len(beams)):
        node = beams[i]["node"]
        while node >= 0 and new_N[node] < 0:
            new_N[node] = 0
            node = nodes[node]["parent"]
    alive = np.flatnonzero(new_N == 0)
    out = np.empty(max(len(nodes), 2 * (len(alive) + room)), _NODE)
    out[0] = nodes[0]
    out[0]["child"] = -1
    new_N[0], count = 0, 1
    for node in alive[1:]:
        new_N[node], count = _node(out, count, new_N[nodes[node]["parent"]], nodes[node]["label"])
        out[new_N[node]]["beam"] = nodes[node]["beam"]
    for i in range(len(beams)):
        beams[i]["node"] = new_N[beams[i]["node"]]
    return out, count


@compiled
def spell(nodes: np.ndarray, node: int) -> list[int]:
    """Returns the labels of a node's text."""
    labels = []
    while nodes[node]["parent"] >= 0:
        labels.append(nodes[node]["label"])
        node = nodes[node]["parent"]
    return labels[::-1]
