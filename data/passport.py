"""The passport: what a corpus is, whose it is, and what it and all that is made of it may be used for.

One entry per source stands in the manifest of every artifact from the corpus to the export, so that a gate
needs no recipe: `forbidden` says whether something may leave, `contradiction` whether a licence fits. What a
licence allows is read off its SPDX id (https://spdx.org/licenses/) or stated by the user; nothing is guessed.
No torch here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from residency.artifact import StageFile, read_manifest
from residency.data.steps.settings import Identifier

if TYPE_CHECKING:
    from residency.data.settings import CorpusSettings

Entry = dict[str, Any]
"""`corpus`, `source`, `licence`, `consent`, `languages`, `phi`, `synthetic`, `documents`; in a mixture `share`, in a
model `stage`, the one that learnt from it."""
Consent = Literal["open", "share-alike", "non-commercial", "credentialed"]
"""What a source allows, from the loosest to the strictest."""
Phi = Literal["none", "scrubbed", "possible"]
"""Identifiers of patients, from the safest to the riskiest."""
Use = Literal["publish", "judge", "text-logging"]
"""Passing a model on, showing text to a judge elsewhere, tracking a run on a server elsewhere."""
UNKNOWN = "unknown"
DOES = {"publish": "published", "judge": "shown to a judge elsewhere", "text-logging": "logged elsewhere"}
OPEN = re.compile(
    r"(cc0|cc-by|mit|mit-0|apache|bsd|0bsd|isc|odc-by|pddl|unlicense|public-domain|afl|cdla-permissive)(-.*)?$"
)
SHARE_ALIKE = re.compile(r"(odbl|gpl|lgpl|agpl|gfdl|cdla-sharing)-.*$")


def consents(licence: str | None) -> set[Consent]:
    """What an SPDX id says of its licence's terms; empty where it says nothing. `A AND B` has the terms of both."""
    found: set[Consent] = set()
    for name in re.split(r"\s+and\s+", (licence or "").lower()):
        parts = re.split(r"[\s-]+", name)
        if "credentialed" in parts:
            found.add("credentialed")
        if "nc" in parts or "noncommercial" in parts:
            found.add("non-commercial")
        if (name.startswith("cc-") and "sa" in parts) or SHARE_ALIKE.match(name):
            found.add("share-alike")
    return found or ({"open"} if OPEN.match((licence or "").lower()) else set())


def consent_of(licence: str | None) -> Consent | None:
    """The strictest term of a licence; None where its id says nothing."""
    return max(consents(licence), key=get_args(Consent).index, default=None)


def of_corpus(
    name: str,
    settings: CorpusSettings,
    documents: int | None = None,
    *,
    made_from: Iterable[Entry] = (),
) -> Entry:
    """The entry of a corpus.

    Args:
        documents: how many it holds; None before it is read.
        made_from: entries of what synthetic text was made of; they decide licence, consent and PHI status.
    """
    made_from = list(made_from)
    world = settings.source.startswith("world:")
    entry: Entry = {
        "corpus": name,
        "source": _where(settings),
        "licence": settings.licence or ("Apache-2.0" if world else None),
        "consent": settings.consent or consent_of(settings.licence) or ("open" if world else None),
        "languages": settings.languages or (["en"] if world else []),
        "phi": settings.phi or ("none" if world else None),
        "synthetic": settings.synthetic or ("generated world" if world else None),
    }
    if settings.synthesis is not None:
        entry["synthetic"] = f"{settings.synthesis.told} of {' and '.join(settings.made_of)}"
    if made_from:
        entry |= _inherited(made_from)
        entry["languages"] = settings.languages or entry["languages"]
    if scrubs(settings):
        entry["phi"] = "scrubbed"
    return {**entry, "documents": documents}


def of_replies(stage: str, model: str, made_from: Iterable[Entry], documents: int | None = None) -> Entry:
    """The entry of the corpus that a stage writes with a model.

    Args:
        stage: its name, which is the corpus' name too.
        model: name of the stage whose model wrote.
        made_from: entries of that model, of the prompts, and of what scored the replies.
    """
    return {
        "corpus": stage,
        "source": f"stage {stage}",
        "synthetic": f"written by {model}",
        **_inherited(list(made_from)),
        "documents": documents,
    }


def scrubs(settings: CorpusSettings) -> bool:
    """Whether a step looks for every kind of patients' identifiers, and none behind it can bring one to light."""
    kinds = [step.kind for step in settings.steps]
    looked_for = {kind for step in settings.steps if step.kind == "phi" for kind in step.kinds}
    return looked_for == set(get_args(Identifier)) and "normalise" not in kinds[kinds.index("phi") :]


def of_parent(stage: StageFile) -> list[Entry]:
    """What the stage's parent model was made of; nothing for a model that came without a manifest."""
    model = stage.parents.get("model")
    if model is None or not (model / "manifest.json").exists():
        return []
    entries = read_manifest(model).passport
    # A model of another run: its stages' names mean nothing here.
    outside = model.resolve().parent != stage.run.resolve()
    return [{**entry, "stage": "base"} for entry in entries] if outside else entries


def of_model(stage: StageFile, learnt: Iterable[Entry]) -> list[Entry]:
    """What the parent model was made of, and what this stage learnt from."""
    return [*of_parent(stage), *({**entry, "stage": stage.name} for entry in learnt)]


def forbidden(passport: Iterable[Entry], use: Use) -> str | None:
    """Why what was made of these sources may not be used so, or None.

    Credentialed text and text that may hold identifiers of patients go nowhere, nor does what was made of them;
    text of an unknown licence is not published.
    """
    reasons: dict[str, list[str]] = {}
    for entry in passport:
        if reason := _reason(entry, use):
            names = reasons.setdefault(reason, [])
            if entry["corpus"] not in names:
                names.append(entry["corpus"])
    told = "; ".join(f"{', '.join(names)}, whose {reason}" for reason, names in reasons.items())
    return f"it is made of {told}: it may not be {DOES[use]}" if told else None


def contradiction(passport: Iterable[Entry], licence: str | None) -> str | None:
    """Why what was made of these sources cannot be passed on under a licence, or None.

    Args:
        licence: SPDX id; None stands for the licence that follows from the sources (`licence_of`).
    """
    passport = list(passport)
    shared = _share_alike(passport)
    if licence is None:
        if len({_family(name)[0] for name in shared}) > 1:
            names = " and ".join(f"{corpus} ({name})" for name, corpus in shared.items())
            return f"{names} must be passed on under their own licences, and no licence is both"
        licence = licence_of(passport)
    for name, corpus in shared.items():
        if licence is not None and not _continues(licence, name):
            return f"{corpus} is {name} and must be passed on under it: {licence} is another licence"
    for entry in passport:
        strict = entry.get("consent") == "non-commercial" or "non-commercial" in consents(
            entry.get("licence")
        )
        if licence is not None and strict and "non-commercial" not in consents(licence):
            return f"{entry['corpus']} ({entry.get('licence')}) allows no commercial use: {licence} allows it"
    return None


def licence_of(passport: Iterable[Entry]) -> str | None:
    """The licence that the sources force on what is made of them: a share-alike one, else a non-commercial one;
    None where they force none."""
    passport = list(passport)
    if shared := _share_alike(passport):
        # NC-SA before SA, then the latest version
        return max(shared, key=lambda name: ("non-commercial" in consents(name), _family(name)[1]))
    strict = [
        str(entry.get("licence"))
        for entry in passport
        if entry.get("consent") == "non-commercial" and "non-commercial" in consents(entry.get("licence"))
    ]
    if strict:
        return max(strict, key=lambda name: _family(name)[1])
    return "CC-BY-NC-4.0" if any(entry.get("consent") == "non-commercial" for entry in passport) else None


def is_remote(tracker: str) -> bool:
    """Whether a tracker of training curves sends them to another machine, going by its environment variables."""
    if tracker == "wandb":
        return os.environ.get("WANDB_MODE") not in ("offline", "disabled")
    if tracker == "trackio":
        return any(os.environ.get(f"TRACKIO_{name}") for name in ("SPACE_ID", "SERVER_URL", "BUCKET_ID"))
    return False


def _reason(entry: Entry, use: Use) -> str | None:
    licence = entry.get("licence")
    if entry.get("consent") == "credentialed":
        return "consent is credentialed"
    if entry.get("phi") == "possible":
        return "text may hold identifiers of patients"
    if use == "publish" and (licence is None or licence == UNKNOWN):
        return "licence is unknown"
    return None


def _inherited(made_from: list[Entry]) -> Entry:
    """Licence, consent, languages and PHI status of text that was made of several sources: the strictest of each."""
    licences = list(dict.fromkeys(str(entry.get("licence") or UNKNOWN) for entry in made_from))
    known = [entry["consent"] for entry in made_from if entry.get("consent")]
    risks = [entry["phi"] for entry in made_from if entry.get("phi")]
    return {
        "licence": UNKNOWN if UNKNOWN in licences else " AND ".join(licences),
        "consent": max(known, key=get_args(Consent).index, default=None),
        "languages": list(dict.fromkeys(code for entry in made_from for code in entry.get("languages", []))),
        "phi": max(risks, key=get_args(Phi).index, default=None) if len(risks) == len(made_from) else None,
    }


def _where(settings: CorpusSettings) -> str:
    """Source and file; of several files their number."""
    files = settings.files
    if len(files) > 1:
        return f"{settings.source} ({len(files)} files)"
    return f"{settings.source}/{files[0]}" if files else settings.source


def _share_alike(passport: list[Entry]) -> dict[str, str]:
    """Share-alike licences and the first corpus under each."""
    found: dict[str, str] = {}
    for entry in passport:
        for name in re.split(r"\s+AND\s+", str(entry.get("licence") or UNKNOWN)):
            stated = entry.get("consent") == "share-alike" and not consents(entry.get("licence"))
            if stated or "share-alike" in consents(name):
                found.setdefault(name, entry["corpus"])
    return found


def _family(licence: str) -> tuple[str, tuple[int, ...]]:
    """`CC-BY-SA-3.0` as its name and version."""
    match = re.fullmatch(r"(.*?)-?(\d+(?:\.\d+)*)?(-only|-or-later)?", licence.lower())
    assert match is not None
    return match[1], tuple(int(part) for part in (match[2] or "0").split("."))


def _continues(licence: str, source: str) -> bool:
    """Whether a share-alike source may be passed on under a licence: its own, or a later version of it."""
    (name, version), (origin, least) = _family(licence), _family(source)
    return name == origin and version >= least
