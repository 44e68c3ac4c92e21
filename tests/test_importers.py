"""mmbench/importers.py: which importer a file is given to."""

import pickle

import pytest

from mmbench.errors import DataError, UsageError
from mmbench.importers import Importer, importer_for
from mmbench.registry import discover


def called(title, suffix):
    class Suffixed(Importer):
        name, summary = title, f"files that end in {suffix}"

        def recognises(self, paths):
            return all(path.suffix == suffix for path in paths)

        def read(self, paths, dataset):
            raise NotImplementedError

    return Suffixed


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.a"
    path.write_bytes(b"")
    return path


def test_the_one_that_recognises_a_file_is_given_it(file):
    known = {"a": called("a", ".a"), "b": called("b", ".b")}
    assert importer_for([file], known).name == "a"


def test_a_file_that_nobody_recognises_is_an_error_with_every_format(file):
    with pytest.raises(
        DataError, match=r"data\.a: not recognised.*b: files that end in \.b.*--format"
    ):
        importer_for([file], {"b": called("b", ".b")})


def test_a_file_that_two_recognise_needs_a_choice(file):
    with pytest.raises(UsageError, match=r"may be read as a, c; say which: --format"):
        importer_for([file], {"a": called("a", ".a"), "c": called("c", ".a")})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pkl: there is no such file"):
        importer_for([tmp_path / "nothing.pkl"], {"a": called("a", ".a")})


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_mult_is_recognised_whatever_its_protocol(tmp_path, protocol):
    known = {name: found.cls for name, found in discover().classes["importer"].items()}
    path = tmp_path / "mosi_data.pkl"
    path.write_bytes(pickle.dumps({"train": {"text": 1}}, protocol))
    assert importer_for([path], known).name == "mult"
