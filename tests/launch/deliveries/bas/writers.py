"""Writers of annotations, to test the readers by round trips."""

import json

from deliveries.bas.annotation import Annotation
from deliveries.bas.partitur import FIELDS, Item


def write_item(item: Item) -> str:
    """Returns the line of an item; `read_items` reads it back if its label has no line breaks and no blanks at its
    ends.
    """
    return "\t".join([f"{item.tier}:", *(str(getattr(item, field)) for field in FIELDS[item.tier]), item.label])


def write_partitur(annotation: Annotation) -> str:
    """Returns a Partitur file of `annotation` with the tiers ORT, TR2 and MAU."""
    header = ["LHD: Partitur 1.3", f"SAM: {annotation.rate}", f"SPN: {annotation.speaker}", "LBD:"]
    items = [Item("ORT", word.label, str(i)) for i, word in enumerate(annotation.words)]
    items += [Item("TR2", label, str(i)) for i, label in enumerate(annotation.tr2)]
    for i, word in enumerate(annotation.words):
        if word.span:
            start, end = word.span
            items.append(Item("MAU", "a", str(i), start, end - start - 1))
    return "\n".join([*header, *map(write_item, items), ""])


def write_emu(annotation: Annotation, name: str) -> str:
    """Returns an EMU annotation of the recording `name` with the levels ORT (and TR2 labels) and MAU."""
    count = len(annotation.words)
    words = [{"id": i + 1, "labels": [{"name": "ORT", "value": w.label}]} for i, w in enumerate(annotation.words)]
    tr2 = [{"id": 2 * count + i + 1, "labels": [{"name": "TR2", "value": t}]} for i, t in enumerate(annotation.tr2)]
    segments, links = [], []
    for i, word in enumerate(annotation.words):
        if word.span:
            start, end = word.span
            labels = [{"name": "MAU", "value": "a"}]
            segments.append({"id": count + i + 1, "sampleStart": start, "sampleDur": end - start - 1, "labels": labels})
            links.append({"fromID": i + 1, "toID": count + i + 1})
    levels = [
        {"name": "ORT", "type": "ITEM", "items": words},
        {"name": "TR2", "type": "ITEM", "items": tr2},
        {"name": "MAU", "type": "SEGMENT", "items": segments},
    ]
    document = {
        "name": name,
        "annotates": f"{name}.wav",
        "sampleRate": annotation.rate,
        "levels": levels,
        "links": links,
    }
    return json.dumps(document, ensure_ascii=False)
