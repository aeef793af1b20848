"""What bad input gets: a sentence with a remedy, an exit code, and no file.

``bad_input.json`` holds, for each case, exactly what is printed; places vary and are FOLDER.
After a change of wording, look at the new sentences and write them with
``python Testing/Python/endtoend/test_bad_input.py`` (from the tests' environment). The cases
are in ``bad_input.py`` and ``bad_dicom.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
from bad_dicom import DICOM_CASES
from bad_input import CASES as PLAIN_CASES
from bad_input import SCAN, Arguments, image_at
from conftest import describe, make_bundle
from meddinov3_training.cli import main

TABLE = Path(__file__).with_name("bad_input.json")
CASES = {**PLAIN_CASES, **DICOM_CASES}


def run(folder: Path, make: Callable[[Path], Arguments], full: bool) -> tuple[int, str, set[Path]]:
    """Exit code, what was printed, and files that the command left behind."""
    arguments = make(folder)
    if "-m" not in arguments:
        arguments += ["-m", make_bundle(folder / "tiny", describe("lesion", "vessel"))]
    if "-o" not in arguments:
        arguments += ["-o", folder / "out"]
    before = set(folder.rglob("*"))
    code, printed = 0, io.StringIO()

    def no_space(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with contextlib.ExitStack() as stack:
        command = ["meddinov3", "segment", *map(str, arguments)]
        stack.enter_context(mock.patch.object(sys, "argv", command))
        stack.enter_context(contextlib.redirect_stderr(printed))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(mock.patch.dict(os.environ, {"MEDDINOV3_HOME": str(folder / "home")}))
        if full:
            stack.enter_context(mock.patch.object(sitk, "WriteImage", no_space))
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    text = " ".join(printed.getvalue().split()).replace(str(folder), "FOLDER")
    return code, text, {path for path in set(folder.rglob("*")) - before if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(tmp_path: Path, name: str) -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    code, printed, left = run(tmp_path, CASES[name], name == "disk full")
    assert code != 0
    assert printed == table[name]
    assert "What to do:" in printed
    assert "Traceback" not in printed
    assert not left


def test_the_table_holds_what_is_tested() -> None:
    assert list(json.loads(TABLE.read_text(encoding="utf-8"))) == list(CASES)


def test_a_few_voxels_that_are_no_numbers_are_replaced_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(SCAN))).astype(np.float32)
    array[3, 4, 5], array[6, 7, 8] = np.nan, -np.inf
    scan = image_at(tmp_path / "scan.nrrd", array)
    model = make_bundle(tmp_path / "tiny", describe("lesion"))
    command = ["meddinov3", "segment", scan, "-o", tmp_path / "out", "-m", model]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    main()
    assert "2 voxel(s) of the scan are no numbers" in capsys.readouterr().out
    assert (tmp_path / "out" / "scan.seg.nrrd").is_file()


if __name__ == "__main__":
    import tempfile

    sentences = {}
    for title, maker in CASES.items():
        with tempfile.TemporaryDirectory() as temporary:
            sentences[title] = run(Path(temporary), maker, title == "disk full")[1]
    TABLE.write_text(json.dumps(sentences, indent=1) + "\n", encoding="utf-8")
