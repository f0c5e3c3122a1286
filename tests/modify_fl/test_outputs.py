"""Where results go: nothing is replaced unasked (U-40), folders are made."""

from pathlib import Path

import pytest

from modify_fl.errors import ConfigError
from modify_fl.outputs import make_folder, refuse_existing, require_folder
from protocol.errors import StorageError


def test_existing_results_are_refused(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in "abc")
    refuse_existing([one, two], overwrite=False)
    one.touch()
    with pytest.raises(StorageError, match="a exists"):
        refuse_existing([one, two], overwrite=False)
    two.symlink_to(three)  # a dangling link is in the way too
    with pytest.raises(StorageError, match=r"1 more exist$"):
        refuse_existing([one, two, three], overwrite=False)
    refuse_existing([one, two], overwrite=True)


def test_a_folder_that_can_be_made_is_made_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("new/deep"), tmp_path / "other" / "deep"):
        require_folder(folder)
    assert list(tmp_path.iterdir()) == []
    for folder in (Path("new/deep"), tmp_path / "new" / "deep"):
        make_folder(folder)
        assert folder.is_dir()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(ConfigError, match="file is no folder"):
            require_folder(folder)
        with pytest.raises(StorageError):
            make_folder(folder)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")  # what a link points at is not made in its name
    with pytest.raises(ConfigError, match="link is no folder"):
        require_folder(tmp_path / "link" / "deep")
