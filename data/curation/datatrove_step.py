"""A step of ours in a datatrove pipeline (https://github.com/huggingface/datatrove), beside its own readers, filters
and writers:

    from residency.data.curation.datatrove_step import Curate
    pipeline = [JsonlReader("in"), Curate(Quality(QualitySettings())), JsonlWriter("out")]

Documents pass in batches; dropped ones are counted under their reasons in datatrove's statistics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from datatrove.pipeline.base import PipelineStep

from residency.data.curation.batch import Batch, CurationStep
from residency.data.curation.parts import BATCH_ROWS


class Curate(PipelineStep):
    """Wraps one curation step."""

    type = "CURATION"
    name = "residency"

    def __init__(self, step: CurationStep) -> None:
        super().__init__()
        self.step = step
        self.name = f"residency {type(step).__name__}"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """The documents that stay, with the text that the step left them."""
        documents = iter(data)
        while some := list(islice(documents, BATCH_ROWS)):
            with self.track_time():
                batch = Batch([{"id": document.id, "text": document.text} for document in some])
                reasons = self.step(batch)
            for document, row, reason in zip(some, batch.rows, reasons, strict=True):
                self.stat_update("total", f"dropped_{reason}" if reason else "forwarded")
                if reason is None:
                    document.text = row["text"]
                    document.metadata |= {
                        key: value for key, value in row.items() if key not in ("id", "text")
                    }
                    yield document
