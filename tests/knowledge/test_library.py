from __future__ import annotations

import random
import time

import pytest

from kevolve.knowledge.documents import BadDocument
from kevolve.knowledge.library import Library, UnknownDocument
from kevolve.knowledge.scope import Scope, device_scope
from tests.knowledge.trees import document, write


@pytest.fixture
def ours(tmp_path):
    return write(
        tmp_path / "ours",
        guidance__tails=document("Mask the tail of a row.", title="Tails and masks", bottlenecks="[correctness]"),
        guidance__spills=document("Registers spill to local memory.", title="Spills", bottlenecks="[registers]"),
        hardware__nvidia__hopper=document("Tensor memory accelerator.", title="Hopper", vendor="nvidia", architectures="[sm90]"),
        hardware__amd__cdna3=document("Local data share.", title="CDNA3", vendor="amd", architectures="[gfx942]"),
        languages__triton__masks=document("Mask loads in tl.load.", title="Masks in Triton", languages="[triton]", phases="[debug]"),
        samples__scan__rows=document("A scan along rows. Mask the tail.", title="Row scan", families="[scan]", topic="sample"),
    )


def ids(found):
    return [item.document.id for item in found]


def test_a_word_of_the_title_ranks_before_one_of_the_text(ours):
    assert ids(Library(ours=ours).find("tails mask"))[0] == "guidance/tails"


def test_documents_of_another_device_or_language_are_not_found(ours):
    library = Library(ours=ours)
    found = ids(library.find("tensor memory accelerator local data share", scope=Scope(vendor="amd", architectures=("gfx942",))))
    assert found[0] == "hardware/amd/cdna3"
    assert "hardware/nvidia/hopper" not in found
    assert "languages/triton/masks" not in ids(library.find("mask tail", scope=Scope(language="cpp")))


def test_an_older_architectures_documents_hold_for_its_sisters():
    assert device_scope({"name": "NVIDIA A10", "arch": "sm86"}) == ("nvidia", ("sm86", "sm80"))
    assert device_scope({"name": "AMD EPYC", "arch": "x86-64-v4", "features": "avx512f amx_tile"}) == ("x86", ("avx2", "avx512", "amx"))
    assert device_scope({"name": "Acme A1", "arch": "a1"}) == ("acme", ("a1",))


def test_an_unknown_id_names_near_ones(ours):
    with pytest.raises(UnknownDocument, match=r"no document 'guidance/tail': perhaps guidance/tails"):
        Library(ours=ours).read("guidance/tail")


def test_a_users_document_stands_in_place_of_ours(ours, tmp_path):
    house = write(tmp_path / "house", guidance__tails=document("House rules on tails.", title="Tails here"))
    assert Library([house], ours=ours).read("guidance/tails").title == "Tails here"


def test_a_users_bad_document_is_an_error_that_names_it(ours, tmp_path):
    house = write(tmp_path / "house", guidance__tails=document(topic="rules"))
    with pytest.raises(BadDocument, match=r"house/guidance/tails\.md:7: topic"):
        Library([house], ours=ours)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder of documents: .*nowhere"):
        Library([tmp_path / "nowhere"])


def test_the_index_is_kept_by_content(ours, tmp_path):
    cache = tmp_path / "cache"
    Library(ours=ours, cache=cache)
    assert len(list(cache.iterdir())) == 1
    Library(ours=ours, cache=cache)
    assert len(list(cache.iterdir())) == 1
    write(ours, guidance__new=document("Persistent kernels."))
    assert ids(Library(ours=ours, cache=cache).find("persistent")) == ["guidance/new"]


def test_an_index_that_was_cut_short_is_made_anew(ours, tmp_path):
    Library(ours=ours, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert ids(Library(ours=ours, cache=tmp_path / "cache").find("spills")) == ["guidance/spills"]


def test_words_that_are_syntax_to_the_index_are_words(ours):
    assert ids(Library(ours=ours).find('"mask" AND (tail* NEAR'))[0] == "guidance/tails"
    assert Library(ours=ours).find("()\"'") == []


def test_a_long_document_is_answered_by_its_best_section(tmp_path):
    sections = [f"## Part {number}\n\n" + "filler words of no use " * 60 for number in range(6)]
    sections[4] = "## Swizzling\n\nSwizzle the shared tile against bank conflicts. " + "filler " * 100
    ours = write(tmp_path, guidance__long=document("\n\n".join(sections)))
    (found,) = Library(ours=ours).search("swizzle bank conflicts", tokens=400)
    assert "Swizzle the shared tile" in found.excerpt
    assert "Part 3" not in found.excerpt
    assert len(found.excerpt) <= 4 * 400


def test_a_query_takes_at_most_10_ms_at_500_documents(tmp_path):
    chance = random.Random(0)
    words = [f"w{number}" for number in range(3000)]
    for number in range(500):
        text = document(" ".join(chance.choices(words, k=400)), title=" ".join(chance.choices(words, k=6)))
        write(tmp_path, **{f"guidance__d{number}": text})
    library = Library(ours=tmp_path)
    asked = [" ".join(chance.choices(words, k=60)) for _ in range(21)]
    times = []
    for words_asked in asked:
        began = time.process_time()
        assert len(library.find(words_asked)) == 5
        times.append(time.process_time() - began)
    assert sorted(times)[10] < 0.010
