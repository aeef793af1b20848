"""Damaged ``cases.json``: refused, and nothing outside the library is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from meddinov3.cases.library import Library
from small_library import add, files, make_library, refused


@pytest.mark.parametrize(
    "case",
    [{"id": "../../victim"}, {"id": "case_1"}, {"id": "case_0003"}, {"id": "case_0002"},
     {"id": "case_0001/../x"}, {"id": "CASE_0001"}, {"id": "case_0001\n"}, {"id": 1},
     {"id": "case_\u0661\u0661\u0661\u0661"}, {"revision": 0}, {"revision": -1}],
    ids=str,
)  # fmt: skip
def test_ids_that_reach_outside_or_are_none(tmp_path: Path, case: dict[str, object]) -> None:
    folder = tmp_path / "library"
    library = make_library(folder)
    add(library, 0), add(library, 1)
    victim = tmp_path / "victim_0000.nrrd"
    victim.write_bytes(b"x")
    content = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    content["cases"][0] |= case
    (folder / "cases.json").write_text(json.dumps(content), encoding="utf-8")
    before = files(tmp_path)
    assert refused(Library.open, folder).code == "bad-library"
    assert refused(library.remove, "case_0002").code == "bad-library"
    assert refused(library.remove, str(case.get("id"))).code == "bad-library"
    assert files(tmp_path) - {"library/.lock"} == before - {"library/.lock"}


def test_a_library_that_has_gone_is_not_made_again(tmp_path: Path) -> None:
    library = make_library(tmp_path / "library")
    add(library, 0)
    (tmp_path / "library").rename(tmp_path / "elsewhere")
    for call, *arguments in ((add, library, 1), (library.remove, "case_0001")):
        assert refused(call, *arguments).code == "no-library"
    assert not (tmp_path / "library").exists()
