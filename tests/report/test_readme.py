import pytest

from kevolve.report.readme import BEGIN, END, MarksError, filled, main
from kevolve.report.record import Times, write
from kevolve.report.text import forms


def test_the_table_stands_between_the_marks_and_the_rest_is_untouched(record):
    document = filled(f"before\n{BEGIN}\nold\n{END}\nafter\n", record)
    assert document.startswith(f"before\n{BEGIN}\nEPYC 7B13 (x86-64-v3), 2026-01-02; kevolve 0.1.0, torch 2.13.0, python 3.11.7")
    assert "Geometric mean: 6.13x over eager (3 cases)" in document
    assert document.endswith(f"\n{END}\nafter\n")
    assert "old" not in document


def test_each_table_of_a_document_has_marks_of_its_own(record):
    marks = "<!-- paper:begin -->\n<!-- paper:end -->\n"
    document = filled(f"{BEGIN}\nkept\n{END}\n{marks}", record, marks="paper", times=True)
    assert document.startswith(f"{BEGIN}\nkept\n{END}\n<!-- paper:begin -->\n")
    heading = next(line for line in document.splitlines() if line.startswith("| spec"))
    assert [name.strip() for name in heading.strip("|").split("|")][2:5] == ["kernel, us", "eager, us", "torch.compile, us"]


def test_times_stand_in_both_forms_where_both_were_measured():
    assert forms(Times(launched=12.345, replayed=9.876)) == "12.3 / 9.88"
    assert forms(Times(launched=1234.5)) == "1234"
    assert forms(None) == ""


def test_filling_twice_gives_the_same(record):
    once = filled(f"{BEGIN}\n{END}\n", record)
    assert filled(once, record) == once


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_its_marks_is_refused(record, document):
    with pytest.raises(MarksError, match="expected <!-- table:begin --> and, further down, <!-- table:end -->"):
        filled(document, record)


def test_the_command_fills_the_file(record, tmp_path):
    document = tmp_path / "README.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    write(record, tmp_path / "cpu.json")
    assert main([str(tmp_path / "cpu.json"), str(document)]) == 0
    assert "| spec " in document.read_text()


def test_the_command_says_what_it_could_not_read(tmp_path, capsys):
    (tmp_path / "README.md").write_text("no marks\n")
    (tmp_path / "cpu.json").write_text("{}")
    assert main([str(tmp_path / "cpu.json"), str(tmp_path / "README.md")]) == 1
    assert "cpu.json: record: expected a field 'version', got none" in capsys.readouterr().err
