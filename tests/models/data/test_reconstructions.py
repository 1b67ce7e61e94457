from dataclasses import replace

import numpy as np
import pytest

from unveil.models.data.reconstructions import NamesDoNotMatch, match_reconstructions
from unveil.models.data.sample import sample

DATA = replace(sample().take(0, 3), test_names=("cat/1", "cat/2", "dog/3"))


def submit(*names):
    images = np.stack([np.full_like(DATA.test[0], index) for index in range(len(names))])
    return replace(DATA, test=images, test_names=names)


@pytest.mark.parametrize(
    "names", [("dog/3", "cat/2", "cat/9", "cat/1"), ("3", "2", "9", "1"), ("a/3", "a/2", "a/9", "b/1")]
)
def test_reconstructions_are_matched_by_path_or_by_unique_file_name(names):
    assert match_reconstructions(submit(*names), DATA)[:, 0, 0, 0].tolist() == [3, 1, 0]


def test_file_names_that_are_not_unique_are_not_guessed():
    with pytest.raises(NamesDoNotMatch, match="no reconstruction of 3 of 3 test images: 'cat/1', 'cat/2'"):
        match_reconstructions(submit("a/1", "b/1", "a/2", "a/3"), DATA)


def test_names_that_are_not_unique_are_refused():
    with pytest.raises(NamesDoNotMatch, match="more than one reconstruction has the name 'cat/2', 'dog/3'; rename"):
        match_reconstructions(submit("cat/1", "cat/2", "cat/2", "dog/3", "dog/3"), DATA)
    with pytest.raises(NamesDoNotMatch, match="more than one test image has the name 'cat/1'"):
        match_reconstructions(submit("cat/1", "dog/3"), replace(DATA, test_names=("cat/1", "cat/1", "dog/3")))
    assert len(match_reconstructions(submit("a/9", "a/9", "cat/1", "cat/2", "dog/3"), DATA)) == 3


def test_images_without_file_names_are_named_by_position():
    assert len(match_reconstructions(submit("2", "0", "1"), replace(DATA, test_names=None))) == 3
    with pytest.raises(NamesDoNotMatch, match=r"'2'; this dataset has no file names: .* 0.png, 1.png"):
        match_reconstructions(submit("0", "1"), replace(DATA, test_names=None))
