"""README.md and CONTRIBUTING.md: what they say is so."""

import inspect
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench import cards, checks, hookspecs
from mmbench.cli import cli, main
from mmbench.registry import REGISTERING
from mmbench.tasks import Regression

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")


def test_the_readmes_plugin_runs(tmp_path, monkeypatch, capsys):
    text = README.split("<!-- example plugin -->\n```python\n")[1].split("```")[0]
    assert len(text.splitlines()) < 40
    (tmp_path / "my_method.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^mmbench (run --plugin .*)$", README, re.M)
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--jobs", "1"])
    assert ended.value.code == 0
    assert "my-method" in (tmp_path / "leaderboards" / "tiny.md").read_text()


def test_the_readmes_card_can_be_read(tmp_path):
    text = README.split("<!-- example card -->\n```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(text)
    card = cards.read(tmp_path / "mine.yaml")
    assert (card.file, card.task) == ("mine.npz", Regression(-3, 3))
    assert card.summary == "900 reviews of restaurants" and card.schedule.epochs == 30


def test_every_command_and_option_is_in_the_readme():
    said = README.split("## Commands")[1].split("## Where things are")[0]
    for name, command in cli.commands.items():
        assert f"mmbench {name}" in said
        for part in getattr(command, "commands", {}):
            assert part in said
    for word in ("run", "compare"):
        for option in cli.commands[word].params:
            assert option.opts[0] in said or not option.opts[0].startswith("--"), option


def test_every_command_has_help():
    for words in (["--help"], ["run", "--help"], ["data", "import", "--help"]):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0 and "Usage" in result.output


def blocks(language: str) -> list[str]:
    """The guide's code in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.M | re.S)


def test_the_guides_code_and_commands_run(tmp_path, monkeypatch, capsys):
    """Its Python as one file; then every command, as a reader types them."""
    assert set(re.findall(r"^```(\w+)", GUIDE, re.M)) == {"python", "sh", "toml"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_method.py").write_text("\n\n".join(blocks("python")))
    commands = [line for text in blocks("sh") for line in text.splitlines()]
    for command in commands:
        program, *words = command.split()
        assert program == "mmbench"
        with pytest.raises(SystemExit) as ended:
            main([*words, *(["--jobs", "1"] if words[0] == "run" else [])])
        assert ended.value.code == 0, command
    table = (tmp_path / "leaderboards" / "tiny.md").read_text()
    for name in re.findall(r'^    name = "(.*)"', "".join(blocks("python")), re.M):
        label = "hidden[width=8]" if name == "hidden" else name
        assert f"| {label} (quick)" in table, name
    for stage in ("teacher 1", "student 2", "train 2"):
        assert f" {stage}: " in (tmp_path / "epochs.txt").read_text()
    (declared,) = blocks("toml")
    assert declared in (tmp_path / "mmbench-my-method" / "pyproject.toml").read_text()
    capsys.readouterr()


def test_every_hook_is_in_the_guide_as_it_is_in_the_code():
    rows = re.findall(r"^\| `(mmbench_\w+)` \| (.*?) \| (.*) \|$", GUIDE, re.M)
    hooks = {name: f for name, f in vars(hookspecs).items() if name.startswith("mmbench_")}
    assert rows == [
        (
            name,
            ", ".join(f"`{argument}`" for argument in inspect.signature(f).parameters),
            str(inspect.getdoc(f)).splitlines()[0],
        )
        for name, f in hooks.items()
    ]


def test_every_check_is_in_the_guide():
    block = GUIDE.split("<!-- checks -->\n")[1].split("<!-- /checks -->")[0]
    rows = "".join(f"| {kind} | {name} | {why} |\n" for kind, name, why in checks.reference())
    assert block == f"| kind | check | why |\n|---|---|---|\n{rows}"


def test_every_hook_that_registers_is_in_contributing():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(hook in guide for hook in REGISTERING)


def test_continuous_integration_calls_the_readmes_command():
    command = README.split("<!-- test command -->\n```sh\n")[1].split("\n```")[0]
    assert "tox run -e py,lint,type,pkg,outoftree" in command
    assert "test command" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_says_which_mmbench_this_is():
    assert "not** MMBench, the benchmark of vision-language models" in README
