"""Photos of a site whose plan has privacy: judged before it joins, one by one in a round (P-86, F-17).

Whether a set as a whole may be used is a fact about all of its photos that no
noise hides, so it is asked for where a refusal stays on this machine.

Guarantees: in a round each photo counts or is left out by itself; no other photo
decides about that, nor all together whether there is an answer.

| case | before joining | in a round |
|---|---|---|
| more than 5 % cannot be read, or none can be used | ``DataError`` | left out; noise alone where none is left |
| the photos are almost all grey, black or white (M-1) | ``ConfigError`` | they count |
| unit person, a photo outside the folders of persons | ``ConfigError`` | left out |
| no folder, or no file in it that is called a picture | ``DataError`` | ``DataError`` |
"""

from content_client.adaptation import read_photos
from modify_fl.artifacts import LoadedStyle
from modify_fl.console import Console
from modify_fl.federated.site_folder import SiteSettings
from modify_fl.privacy.settings import DpSettings
from modify_fl.training.views import PhotoUnits, group_photos

__all__ = ["judge_units", "read_units"]


def judge_units(style: LoadedStyle, site: SiteSettings, privacy: DpSettings, console: Console) -> None:
    """Refuse photos that are no good as a set, before anybody is asked for a round.

    Args:
        style: The verified bundle.
        site: Where the photos are.
        privacy: What is protected as one.
        console: Names every photo that is left out.

    Raises:
        ConfigError: They fail M-1, or one does not say whose it is.
        DataError: They cannot be used.
    """
    photos = read_photos(style, site.photos, console, align=site.align)
    group_photos(photos.names, privacy.unit)
    photos.discard()


def read_units(style: LoadedStyle, site: SiteSettings, privacy: DpSettings, console: Console) -> PhotoUnits:
    """Return what a round draws from, each unit read by itself; arguments as in ``judge_units``.

    Raises:
        DataError: There are no picture files at all.
    """
    photos = read_photos(style, site.photos, console, align=site.align, judged=False)
    groups = group_photos(photos.names, privacy.unit, judged=False)
    if sum(map(len, groups)) < len(photos):
        console.warn("photos outside the folders of persons are left out")
    return PhotoUnits(photos, groups, seed=0, augmentations=privacy.augmentations, per_person=privacy.per_person)
