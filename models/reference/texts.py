"""Texts for the comparisons: ordinary captions, and what users and files really contain."""

CAPTIONS = [
    "a photo of a dog",
    "a woman in an orange space suit smiling at the camera",
    "a cup of coffee on a wooden table",
    "the rocket leaves the launch pad at night",
    "A tabby cat's face, close up!",
    "two motorcycles parked in a garage, one of them red",
]

# Every reference agrees with the tokenizer file on these.
COMMON = CAPTIONS + [
    "",
    "   ",
    "a",
    "A PHOTO OF A DOG",
    "  a   photo\tof\n a  dog  ",
    "it's, they're; we'll: don't...",
    "'s 't 're",
    "snake_case_and-hyphens/slashes",
    "12345 3.14 1st 2nd 100%",
    "!!!",
    "Crème brûlée à la façade naïve",
    "Cre\u0300me bru\u0302le\u0301e decomposed",
    "Ein süßer Hund läuft über die Straße",
    "собака бежит по траве",
    "一只狗在草地上",
    "犬が芝生を走っている",
    "강아지가 달린다",
    "كلب يجري على العشب",
    "ein Hund 🐕 und eine Katze 🐈",
    "👩\u200d🚀🚀🔥",
    "🇫🇷 family 👨\u200d👩\u200d👧",
    "math: ∑ x² ≤ ∞",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a dog\u00a0with a non-breaking space",
    "“curly quotes” and the dog’s bone",
]

# (text, times): ten thousand words are cut to the context length, the end token kept.
REPEATED = [("dog ", 10_000), ("one two ", 5_000), ("x", 300)]

# Known differences, each with its reason; the tokenizer file's ids are what Sextant gives.
DIFFERENT = {
    "clip": {
        "fish &amp; chips": "open_clip unescapes HTML entities",
        "the schÃ¶n mojibake": "open_clip repairs mojibake (ftfy)",
        "ｆｕｌｌ ｗｉｄｔｈ": "open_clip narrows full-width letters (ftfy)",
        "ﬁne ﬂoor": "open_clip splits Latin ligatures (ftfy)",
        "ΟΔΟΣ": "Python lower-cases a final sigma by context",
        "<|endoftext|> in a text": "open_clip spells its special tokens <start_of_text> and <end_of_text>",
    },
    "siglip": {
        "fish &amp; chips": "open_clip unescapes HTML entities",
        "a dog</s>": "special tokens written out in a text are recognised before cleaning",
    },
    "bert": {},
}
