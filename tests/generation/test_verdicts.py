"""The append-only file of verdicts: what counts of it after a crash."""

from __future__ import annotations

import numpy as np
import pytest

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.verdicts import RECORD, Journal


def records(begin, end):
    made = np.zeros(end - begin, RECORD)
    made["task"] = np.arange(begin, end)
    made["accepted"] = made["task"] % 3 == 0
    made["similarity"] = made["task"] / 100
    return made


def test_what_lies_beyond_the_mark_is_cut_off(tmp_path):
    journal = Journal(tmp_path / "folder")
    assert len(journal.restore({})) == 0
    journal.add(records(0, 5))
    journal.add(records(5, 7))
    mark = journal.save()
    journal.add(records(7, 30))
    beyond = journal.save()
    journal.close()
    assert (mark["images"], beyond["images"]) == (7, 30)

    journal = Journal(tmp_path / "folder")
    assert np.array_equal(journal.restore(mark), records(0, 7))
    assert journal.path.stat().st_size == 7 * RECORD.itemsize
    journal.add(records(7, 30))
    assert journal.save() == beyond
    assert journal.save() == beyond, "saving nothing changes nothing"
    journal.close()


def test_an_unfinished_write_is_cut_off(tmp_path):
    journal = Journal(tmp_path)
    journal.add(records(0, 4))
    mark = journal.save()
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"half")
    journal = Journal(tmp_path)
    assert np.array_equal(journal.restore(mark), records(0, 4))
    journal.close()


@pytest.mark.parametrize("data", [b"", b"\1" * 4 * RECORD.itemsize])
def test_another_file(tmp_path, data):
    journal = Journal(tmp_path)
    journal.add(records(0, 4))
    mark = journal.save()
    journal.close()
    journal.path.write_bytes(data)
    journal = Journal(tmp_path)
    with pytest.raises(GenerationError, match=r"is not the journal of this store"):
        journal.restore(mark)
    journal.close()
