"""Random English sentences from a small grammar, for synthetic speakers."""

from __future__ import annotations

import numpy as np

WORDS = {
    "person": """teacher farmer doctor sailor painter baker driver neighbour brother sister uncle
        captain lawyer student singer nurse tailor gardener waiter pilot writer hunter miller cousin stranger
        judge mayor clerk shepherd drummer dancer fisherman engineer librarian carpenter
        traveller child queen poet""",
    "thing": """table window bottle basket letter hammer mirror blanket candle wagon ladder kettle bicycle
        pencil jacket barrel carpet violin lantern camera suitcase button engine compass ticket
        saddle umbrella clock bucket newspaper map rope feather coin key drawing helmet sandwich
        pumpkin apple onion cheese""",
    "place": """garden kitchen market valley harbour village station library forest island bridge river tower
        field mountain castle school factory theatre church desert meadow cellar corner beach
        lake museum airport bakery hospital farm street barn canyon office""",
    "describe": """old young quiet yellow heavy broken narrow golden bitter gentle clever purple hungry empty
        bright frozen dusty foolish wooden careful lazy proud strange green famous silver
        thirsty curious honest sudden smooth rusty cheerful tired orange grey polite shallow
        enormous cold""",
    "does": """carried painted followed noticed opened borrowed repaired measured forgot lifted watched bought
        dropped collected described polished sold remembered examined moved kept washed threw
        found wanted counted needed offered hid weighed""",
    "goes": """walked travelled hurried returned wandered jumped drove sailed climbed marched cycled rushed
        crept stumbled flew ran rode galloped""",
    "how": """slowly quickly quietly carefully gladly often always seldom usually suddenly again finally
        politely happily nearly barely together""",
    "when": """yesterday today tomorrow tonight later early in~the~morning at~noon after~dinner on~Monday
        on~Thursday last~winter every~summer before~sunrise in~April for~an~hour all~day
        long~ago this~week at~midnight""",
    "where": """behind beside near under above across~from inside towards beyond outside along around""",
    "number": """two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty
        thirty forty sixty ninety""",
    "says": """said thought believed hoped claimed knew wrote explained whispered shouted guessed argued""",
    "joins": """because while although but and~then so~that until since""",
}
PATTERNS = (
    "the describe person does the describe thing where the place",
    "when the person goes how where the place and does a thing",
    "number describe person s goes where the place when",
    "the person says that the thing where the place was describe and describe",
    "why did the describe person put the thing where the describe place?",
    "the person does number thing s joins the person goes where the place",
    "nobody in the place does the describe thing joins the person says nothing",
    "please bring number thing s and a describe thing to the person when",
    "a describe person and a describe person goes where the place how",
    "my describe person does it when , joins the place was describe",
    "have you seen the describe thing that the person does where the place?",
    "the code is number number number number , and the place is number miles away",
)
CHOICES = {role: tuple(words.replace("\n", " ").split()) for role, words in WORDS.items()}


def sentence(rng: np.random.Generator) -> str:
    """Draw one sentence of about 8 to 15 words.

    >>> sentence(np.random.default_rng(0))
    'Have you seen the silver button that the uncle lifted behind the market?'
    """
    words: list[str] = []
    for token in PATTERNS[rng.integers(len(PATTERNS))].split():
        role = token.rstrip("?")
        if role in CHOICES:
            choice = CHOICES[role][rng.integers(len(CHOICES[role]))].replace("~", " ")
            words.append(choice + token[len(role) :])
        elif token in ("s", ","):
            words[-1] += token
        else:
            words.append(token)
    text = " ".join(words)
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")
