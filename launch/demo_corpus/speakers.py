"""The speakers: espeak-ng's voice variants, each with its own accent, pitch, melody and speed."""

import dataclasses
import random

from demo_corpus.speak import Voice

ACCENTS = {
    # Mostly one accent: with several in equal parts a small network needs 50 % more steps.
    "en": ("en-us", "en-us", "en-us", "en", "en-us", "en-us", "en-us", "en-gb-scotland"),
    "de": ("de",),
    "nl": ("nl",),
    "zh": ("cmn-latn-pinyin",),  # which reads tones as digits
}
# Variants that sound like a person (no whisper, croak or robot). Few are women, so some occur twice, with another
# accent and pitch. The other languages use the first thirty.
TRAIN_VARIANTS = (
    "m1 f1 m2 f2 m3 f3 m4 f5 m6 belinda m7 Annie m8 grandma klatt4 steph Alex shelby adam anika "
    "edward max benjamin Mario pablo Denis sandro rob paul Hugo "
    "john boris david ed Diogo Gene Henrique iven Lee michel miguel Mike norbert Nguyen pedro quincy robert travis "
    "klatt3 Andy f3 f5 f2 f1 shelby Annie belinda grandma anika steph"
).split()
# Unlike all training voices.
DEV_VARIANTS = "m5 f4 linda Michael gustave marcelo aunty Jacky".split()
SPEAKERS = {(lang, split): 8 if split == "dev" else 30 for lang in ACCENTS for split in ("train", "dev")}
SPEAKERS["en", "train"] = 60


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A person: a name that is unique over all languages, and a voice."""

    name: str
    voice: Voice


def cast(lang: str, split: str, seed: int) -> list[Speaker]:
    """Returns the speakers of a language (`en`, `de`, `nl`, `zh`) and split (`train`, `dev`), accents in turn."""
    rng = random.Random(f"speakers {lang} {split} {seed}")
    variants = DEV_VARIANTS if split == "dev" else TRAIN_VARIANTS
    accents, count = ACCENTS[lang], SPEAKERS[lang, split]
    speakers = []
    for i, variant in enumerate(variants[:count]):
        name = f"{accents[i % len(accents)]}+{variant}"
        voice = Voice(name, rate=rng.randint(135, 190), pitch=rng.randint(25, 75), range=rng.randint(30, 80))
        speakers.append(Speaker(f"{voice.name}-{voice.pitch}-{voice.rate}", voice))
    return speakers
