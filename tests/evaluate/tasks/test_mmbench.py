"""MMBench: groups of rotations, options that pandas does not see, uploaded sheets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluate.tasks.mmbench import questions
from tests.evaluate.files import Place

HEADING = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\tl2-category\tsplit\timage"
TABLE = "\n".join(
    (
        HEADING,
        "1\tWhat?\t\tcat\tdog\t\t\tA\tanimals\tcoarse\tdev\taGk=",
        "1000001\tWhat?\t\tdog\tcat\t\t\tB\tanimals\tcoarse\tdev\taGk=",
        '2\t"Which\none?"\tlook\tred\tNone\tNA\tblue\tD\tcolors\tfine\tdev\taGk=',
        "1000002\tWhich?\tlook\tblue\tred\tNone\tNA\tA\tcolors\tfine\tdev\taGk=",
    )
)


def test_options_that_pandas_reads_as_absent(tmp_path: Path) -> None:
    found = questions([Place(tmp_path).write("dev.tsv", TABLE)])
    assert [question.more["options"] for question in found[1:3]] == [
        {"A": "dog", "B": "cat"},
        {"A": "red", "D": "blue"},
    ]
    assert [question.options for question in found] == [("cat", "dog"), ("dog", "cat"), ("red",), ("blue", "red")]
    assert found[2].text == "Which\none?"
    assert (found[0].hint, found[2].hint) == ("", "look")


@pytest.mark.parametrize("name", ["mmbench", "mmbench-cn"])
def test_a_group_is_right_if_all_its_rotations_are(tmp_path: Path, name: str) -> None:
    rows = [
        {"question_id": index, "text": text} for index, text in ((1, "A"), (1000001, "A"), (2, "blue"), (1000002, "A."))
    ]
    found = Place(tmp_path).score(name, rows, {"dev.tsv": TABLE}, name="a.jsonl")
    assert found.values == {"1": 0, "2": 1}
    figures = found.figures
    assert (figures["circular"], figures["first_pass"], figures["rows"], figures["groups"]) == (0.5, 1, 0.75, 2)
    assert figures["l2-category"] == {"coarse": 0, "fine": 1}
    assert figures["category"] == {"animals": 0, "colors": 1}


def test_an_answer_without_an_option_is_unparsable_and_wrong(tmp_path: Path) -> None:
    given = {"1": "neither", "1000001": "B", "2": "D", "1000002": "A"}
    found = Place(tmp_path).score("mmbench", given, {"dev.tsv": TABLE})
    assert (found.unparsable, found.values["1"]) == (1, 0)


def test_an_uploaded_sheet_has_the_right_answers_beside_the_predictions(tmp_path: Path) -> None:
    sheet = (
        "index,question,A,B,C,D,prediction,answer,split\n1,What?,cat,dog,,,B,A,dev\n1000001,What?,dog,cat,,,B,B,dev\n"
    )
    sheet += "2,Which?,red,,,blue,D,D,dev\n1000002,Which?,blue,red,,,A,A,dev\n"
    found = Place(tmp_path).score("mmbench", sheet, {"dev.tsv": TABLE}, name="upload.csv")
    assert found.values == {"1": 0, "2": 1}


def test_a_missing_rotation_gives_no_figure(tmp_path: Path) -> None:
    found = Place(tmp_path).score("mmbench", {"1": "A", "2": "D", "1000002": "A"}, {"dev.tsv": TABLE})
    assert (found.missing, found.figures["circular"]) == (1, None)


def test_a_table_without_answers_is_for_the_server(tmp_path: Path) -> None:
    test = TABLE.replace("\tA\tanimals", "\t\tanimals").replace("\tB\tanimals", "\t\tanimals")
    test = test.replace("\tD\tcolors", "\t\tcolors").replace("\tA\tcolors", "\t\tcolors")
    with pytest.raises(DataError, match="scored by the benchmark's server"):
        Place(tmp_path).score("mmbench", {"1": "A"}, {"test.tsv": test})
