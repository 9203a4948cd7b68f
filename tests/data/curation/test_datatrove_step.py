from __future__ import annotations

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor

from residency.data.curation.datatrove_step import Curate
from residency.data.steps.language import Language
from residency.data.steps.quality import Quality
from residency.data.steps.settings import LanguageSettings, QualitySettings
from tests.data.steps.languages import PAGES


def test_a_step_runs_among_datatroves_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    documents = [Document(text=text, id=name) for name, text in [*PAGES.items(), ("short", "Too short.")]]
    seen: list[Document] = []

    def collect(data, rank, world_size):  # type: ignore[no-untyped-def]
        seen.extend(data)

    pipeline = [
        documents,
        Curate(Language(LanguageSettings(keep=["en", "zh"], minimum_score=0.0))),
        Curate(Quality(QualitySettings(language="auto"))),
        collect,
    ]
    LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=str(tmp_path)).run()
    assert [document.id for document in seen] == ["en", "zh"]
    assert seen[1].metadata["language"] == "zh"
    stats = (tmp_path / "stats.json").read_text()
    assert "dropped_language_fr" in stats
    assert "dropped_gopher_short_doc" in stats
