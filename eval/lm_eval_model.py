"""Our engine as a model of lm-evaluation-harness, under the name `residency`.

    python -m residency.eval.lm_eval_model run --model residency --model_args pretrained=DIR --tasks arc_easy

is lm-eval's own command line with this model known to it. Tokens are those of its `hf` backend, so the
results are; what differs is how fast they come, float32 in the output layer, and a continuation whose first letters
merge with the end of its context: it is scored from the first token that is not the context's alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from residency.errors import ResidencyError
from residency.eval.candidate import Candidate
from residency.eval.items import Piece, digest_of
from residency.eval.likelihood.score import log_likelihoods

MAX_NEW_TOKENS = 256  # where a task does not say; as in lm-eval
ONLY_OF_SAMPLING = ("top_p", "top_k", "min_p", "typical_p")


@dataclass(frozen=True)
class Told:
    """What is noted of one request beside its result."""

    tokens: int
    """Scored or written."""
    cut_tokens: int = 0
    """Cut from the left to fit."""
    truncated: bool = False
    """Whether a reply was cut off at its limit."""


@register_model("residency")
class ResidencyLM(TemplateLM):
    """A model directory, or a candidate that is loaded already, answering lm-eval's requests."""

    def __init__(
        self,
        pretrained: str | Candidate,
        max_length: int = 2048,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            max_length: longest input in tokens, within the model's own window.
            batch_size, max_batch_size, device: taken for lm-eval's sake; batches are made by tokens, and an accelerator
                is used where there is one.

        Raises:
            ResidencyError: no such directory, or what cannot be loaded from it.
        """
        super().__init__()
        if isinstance(pretrained, str):
            if not Path(pretrained).is_dir():
                raise ResidencyError(f"pretrained = {pretrained}: no such directory")
            pretrained = Candidate.load(Path(pretrained), int(max_length))
        self.candidate = pretrained
        self.tokenizer = pretrained.tokenizer
        self.max_length = pretrained.max_length
        self.told: list[Told] = []
        """Of the last call, one for each request."""

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        """Digest of the chat template: lm-eval keeps prompts by it."""
        return digest_of([str(self.tokenizer.chat_template)])

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids with the special tokens that the tokenizer itself adds, unless the text begins with BOS."""
        if add_special_tokens is None:
            add_special_tokens = not has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens, verbose=False))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text; without its system message where the template refuses one, as lm-eval does.

        Raises:
            ResidencyError: the model has no chat template.
        """
        if not self.tokenizer.chat_template:
            raise ResidencyError(
                "the model has no chat template, and a task of lm-eval asks through one",
                cure="Set chat: false",
            )
        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except TemplateError:
            said = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(said, **options))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        kept = context.rstrip()  # lm-eval's rule: spaces at the end belong to the continuation
        alone, joint = self.tok_encode(kept), self.tok_encode(context + continuation)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, joint, strict=False)))
        return joint[:shared], joint[shared:]

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """Requests with one context are the options of one item."""
        items: dict[tuple[int, ...], list[int]] = {}
        pieces: list[Piece] = []
        for number, (_text, context, continuation) in enumerate(requests):
            items.setdefault(tuple(context), []).append(number)
            pieces.append(self._piece(context, continuation))
        scored = self._score([[pieces[number] for number in members] for members in items.values()])
        found = {
            number: (each.nats, each.greedy)
            for members, some in zip(items.values(), scored, strict=True)
            for number, each in zip(members, some, strict=True)
        }
        self.told = [
            Told(len(after), len(before) + len(after) - len(piece.ids))
            for (_text, before, after), piece in zip(requests, pieces, strict=True)
        ]
        for number, (text, _before, _after) in enumerate(requests):
            self.cache_hook.add_partial("loglikelihood", text, found[number])
        return [found[number] for number in range(len(requests))]

    def _piece(self, context: list[int], continuation: list[int]) -> Piece:
        """The last token is not read, so one more than the window fits; what is too long loses its left end."""
        if not context or not 0 < len(continuation) <= self.max_length:
            raise ResidencyError(
                f"lm-eval asks for {len(continuation)} tokens after {len(context)}; there must be one or more of each, "
                f"and at most max_length = {self.max_length} are scored",
                cure="Mend the task's target or its delimiter, or raise max_length",
            )
        ids = [*context, *continuation][-(self.max_length + 1) :]
        return Piece(ids, len(ids) - len(continuation))

    def _score(self, items: Sequence[Sequence[Piece]]) -> Any:
        return log_likelihoods(self.candidate.model, items)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in lm-eval's windows."""
        items = [self._windows(request.args[0]) for request in requests]
        found = [sum(each.nats for each in some) for some in self._score(items)]
        self.told = [Told(sum(len(piece.ids) - piece.start for piece in pieces)) for pieces in items]
        for request, nats in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, nats)
        return found

    def _windows(self, text: str) -> list[Piece]:
        windows = get_rolling_token_windows(
            self.tok_encode(text), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return [Piece([*before, *after], len(before)) for before, after in map(make_disjoint_window, windows)]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Replies, greedy or at a temperature; a request that is repeated is sampled as often. They end where those of
        other tasks do, so also with the chat template's end of turn.

        Raises:
            ResidencyError: settings of generation that this engine does not have.
        """
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(number)
        replies: dict[int, str] = {}
        told: dict[int, Told] = {}
        for members in alike.values():
            for number, reply, note in self._write([requests[number] for number in members]):
                replies[members[number]], told[members[number]] = reply, note
        self.told = [told[number] for number in range(len(requests))]
        for number, request in enumerate(requests):
            self.cache_hook.add_partial("generate_until", request.args, replies[number])
        return [replies[number] for number in range(len(requests))]

    def _write(self, requests: list[Any]) -> list[tuple[int, str, Told]]:
        """Number, reply and note of requests with the same settings."""
        asked, stop, new, temperature = _generation(requests[0].args[1])
        room = self.max_length - new
        if room < 1:
            raise ResidencyError(
                f"lm-eval asks for replies of {new} tokens ({asked}), and the model reads {self.max_length}",
                cure="Lower max_gen_toks, or raise max_length where the model's window allows it",
            )
        whole = {text: self.tok_encode(text) for text in dict.fromkeys(each.args[0] for each in requests)}
        times = Counter(each.args[0] for each in requests)
        written = self.candidate.write(
            [ids[-room:] for ids in whole.values()],
            max_new_tokens=new,
            stop=stop,
            temperature=temperature,
            samples=max(times.values()) if temperature else 1,
        )
        samples = dict(zip(whole, written, strict=True))
        seen: Counter[str] = Counter()
        found = []
        for number, request in enumerate(requests):
            text = request.args[0]
            reply = samples[text][seen[text] if temperature else 0]
            seen[text] += 1
            cut = max(0, len(whole[text]) - room)
            found.append((number, reply.text, Told(reply.tokens, cut, reply.truncated)))
        return found


def _generation(asked: dict[str, Any]) -> tuple[dict[str, Any], list[str], int, float]:
    """The settings themselves, stop strings, longest reply and temperature (0: greedy) of `generation_kwargs`."""
    known: dict[str, Any] = dict(normalize_gen_kwargs(asked, MAX_NEW_TOKENS))
    stop = [text for text in known.pop("until") if text]
    new, sampled = int(known.pop("max_gen_toks")), bool(known.pop("do_sample"))
    temperature = float(known.pop("temperature", 0.0)) * sampled
    foreign = [name for name in known if sampled or name not in ONLY_OF_SAMPLING]
    if sampled and not temperature:
        foreign.append("do_sample without a temperature")
    if foreign:
        raise ResidencyError(
            f"generation_kwargs: {', '.join(foreign)} is not among what this engine does",
            cure="It writes greedily or at a temperature, until a string or max_gen_toks",
        )
    return asked, stop, new, temperature


def main() -> None:
    """lm-eval's command line."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except ResidencyError as error:
        print(f"residency: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
