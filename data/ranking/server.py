"""A page on this machine on which clinicians rank replies: blind, shuffled, one prompt at a time.

    residency rank runs/quickstart/draws-1a2b3c4d rankings.jsonl

Nothing leaves the machine: the page is served to 127.0.0.1 only, loads nothing from elsewhere, and never learns which
model wrote what. Every ranking is on the disk before the next prompt is shown."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from residency.data.ranking.agreement import agreements
from residency.data.ranking.book import FEWEST, MOST, Book
from residency.errors import Exit, ResidencyError

HOST = "127.0.0.1"
LARGEST_BODY_BYTES = 65536
LONGEST_NAME = 64


def serve(replies: Path, rankings: Path, *, port: int, seed: int) -> None:
    """Serve until Ctrl-C, then tell how far the raters agree."""
    book = Book(replies, rankings, seed)
    with RankingServer(book, port) as server:
        left_out = f", {book.left_out} prompts left out (no {FEWEST} to {MOST} different replies)" * bool(
            book.left_out
        )
        print(f"{len(book.items)} prompts{left_out}. Open {server.address}  (Ctrl-C ends)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    book.read()
    print(f"\n{len(book.rows)} rankings in {rankings}")
    for each in agreements(book.rows):
        kappa = "not defined" if each.kappa is None else f"{each.kappa:.2f}"
        print(
            f"{' and '.join(each.raters)}: kappa {kappa} over {each.judgements} judgements, {each.items} prompts"
        )


class RankingServer(ThreadingHTTPServer):
    """Serves one book.

    Attributes:
        key: has to come with every ranking, so that no other page in the same browser can send one.
    """

    def __init__(self, book: Book, port: int) -> None:
        """Listen on `port`; 0 takes a free one.

        Raises:
            ResidencyError: the port is taken.
        """
        self.book, self.key = book, secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ResidencyError(
                f"port {port}: {error.strerror}", cure="Give another with --port", code=Exit.ENVIRONMENT
            ) from error

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: RankingServer

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(place.query).items()}
        if not self._is_local():
            self._send(HTTPStatus.FORBIDDEN, {"error": "only from this machine"})
        elif place.path == "/":
            page = files("residency.data.ranking").joinpath("page.html.jinja").read_text(encoding="utf-8")
            self._send(HTTPStatus.OK, page.replace("{{ key }}", self.server.key))
        elif place.path == "/next" and query.get("rater"):
            self._send(HTTPStatus.OK, self._next(query["rater"][:LONGEST_NAME]))
        elif place.path == "/agreement":
            self.server.book.read()
            found = [vars(each) for each in agreements(self.server.book.rows)]
            self._send(HTTPStatus.OK, {"agreements": found})
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not self._is_local() or not secrets.compare_digest(
            self.headers.get("X-Key") or "", self.server.key
        ):
            self._send(HTTPStatus.FORBIDDEN, {"error": "only from the page itself"})
            return
        if urlsplit(self.path).path != "/rank" or length > LARGEST_BODY_BYTES:
            self._send(HTTPStatus.NOT_FOUND, {"error": "no such page"})
            return
        try:
            said = json.loads(self.rfile.read(length))
            rater, ranks = str(said["rater"]).strip()[:LONGEST_NAME], said["ranks"]
            if not rater or not (ranks is None or all(type(rank) is int for rank in ranks)):
                raise TypeError("rater and ranks")
            note, seconds = str(said.get("note") or ""), float(said.get("seconds") or 0)
            self.server.book.rank(rater, str(said["item"]), ranks, seconds=seconds, note=note)
        except (ValueError, KeyError, TypeError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": f"not a ranking: {error}"})
        except ResidencyError as error:
            self._send(HTTPStatus.CONFLICT, {"error": str(error)})
        else:
            self._send(HTTPStatus.OK, self._next(rater))

    def _next(self, rater: str) -> dict[str, Any]:
        """What a rater sees next: the replies in their order, without a word on who wrote them."""
        book = self.server.book
        book.read()
        item = book.next_for(rater)
        state: dict[str, Any] = {"done": book.done_by(rater), "items": len(book.items)}
        if item is None:
            return state
        known = book.items[item]
        replies = [known["responses"][place] for place in book.shown(rater, item)]
        return state | {"item": item, "prompt": known["prompt"], "replies": replies}

    def _is_local(self) -> bool:
        """A name that a hostile page made point here is refused."""
        return (self.headers.get("Host") or "").partition(":")[0] in (HOST, "localhost")

    def _send(self, status: HTTPStatus, body: str | dict[str, Any]) -> None:
        page = isinstance(body, str)
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{'text/html' if page else 'application/json'}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header(
            "Content-Security-Policy", "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet: the terminal shows the address and nothing else."""
