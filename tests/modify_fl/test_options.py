"""Rules U-37, U-38: settings changed from the command line, and the frame of a program."""

from pathlib import Path

import pytest
import typer

from modify_fl.config import preset
from modify_fl.errors import ConfigError
from modify_fl.options import add_version, new_program, run_folder
from modify_fl.overrides import override


def test_override_finds_settings_by_their_last_part() -> None:
    changed = override(
        preset("quick-64"),
        [
            "stylization.batch=3",
            "w_dim=32",
            "penalty=1",
            "parts=[0.25,0.25,0.25,0.25]",
            "encoder=ir-se50",
            "cosine=false",
        ],
    )
    assert changed.stylization.batch == 3
    assert changed.encapsulation.batch == preset("quick-64").encapsulation.batch
    assert changed.network.w_dim == 32
    assert changed.network.encoder == "ir-se50"
    assert changed.encapsulation.critic.penalty == 1.0
    assert changed.encapsulation.parts == (0.25, 0.25, 0.25, 0.25)
    assert changed.encapsulation.cosine is False


def test_xi_follows_a_changed_resolution_unless_set() -> None:
    # 32 px has n = 8 rows, so xi = 4 (M-24); quick-64 itself has 5.
    assert override(preset("quick-64"), ["resolution=32"]).network.xi == 4
    assert override(preset("quick-64"), ["resolution=32", "xi=2"]).network.xi == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("batch=3", "the setting batch is not unique"),
        ("nothing=3", "no setting is called nothing"),
        ("name=x", "no setting is called name"),
        ("batch", "cannot read the setting 'batch'"),
        ("w_dim=wide", "the setting w_dim cannot be wide"),
        ("w_dim=1.5", "the setting w_dim cannot be 1.5"),
        ("w_dim=true", "the setting w_dim cannot be true"),
        ("cosine=1", "the setting cosine cannot be 1"),
        ("parts=[1,2]", "the setting parts cannot be [1,2]"),
        ('parts=["a",0,0,1]', 'the setting parts cannot be ["a",0,0,1]'),
        ("resolution=63", "resolution must be one of 32, 64, 128, 256, 512, 1024, got 63"),
    ],
)
def test_override_refuses_what_does_not_fit(change: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(preset("quick-64"), [change])
    assert str(caught.value) == what


def test_run_folder_stands_beside_the_result() -> None:
    # The whole name is kept, so a bundle and an adapter of one stem do not share a run.
    assert run_folder(Path("a/x.mdfy")) == Path("a/x.mdfy.run")
    assert run_folder(Path("a/x.mdfa")) == Path("a/x.mdfa.run")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_program("Plays a program.")
    add_version(app)
    app.command("work")(lambda: None)
    command = typer.main.get_command(app)
    assert command(args=["--version"], standalone_mode=False) == 0
    assert capsys.readouterr().out.strip().count(".") == 2
    assert command(args=["work"], standalone_mode=False) is None
