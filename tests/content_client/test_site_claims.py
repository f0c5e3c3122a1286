"""P-39 at a site: whatever leaves in rounds without privacy is known to vaults that are made later."""

from pathlib import Path

import pytest
from vaultkit import ORDER, put_photos

from content_client.federation import site
from modify_fl.federated.journal import read_journal
from modify_fl.federated.site_folder import SiteFolder, SiteSettings
from modify_fl.privacy.ledger import Vault


def join(folder: SiteFolder, photos: Path) -> None:
    folder.write_settings(SiteSettings(bundle="style.mdfy", photos=str(photos)))


def test_each_set_of_photos_loses_its_claim_once(tmp_path: Path) -> None:
    """A site that joins again with other photos, or whose photos changed, has another set."""
    (tmp_path / "site").mkdir()
    folder, first, second = SiteFolder(tmp_path / "site"), put_photos(tmp_path / "a"), put_photos(tmp_path / "b", 1)
    for photos, digest in ((first, "1"), (first, "1"), (second, "2"), (second, "2")):
        join(folder, photos)
        site._end_claims(folder, digest, "drawn faces")
    assert [entry.event for entry in read_journal(folder.journal)] == ["unprotected"] * 2
    for photos, left in ((first, 2), (second, 2)):  # each left once, and they have a photo in common
        assert len(Vault.create(photos, order=ORDER)[0].ledger.releases) == left


def test_photos_that_cannot_be_read_stop_the_round(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    folder = SiteFolder(tmp_path / "site")
    join(folder, tmp_path / "nowhere")
    with pytest.raises(Exception, match="there is no folder"):
        site._end_claims(folder, "1", "drawn faces")
    assert read_journal(folder.journal) == ()
