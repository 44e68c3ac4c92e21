"""README.md and CONTRIBUTING.md: what they say is so."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench import cards, hookspecs
from mmbench.cli import cli, main
from mmbench.tasks import Regression

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_plugin_runs(tmp_path, monkeypatch, capsys):
    text = README.split("<!-- example plugin -->\n```python\n")[1].split("```")[0]
    assert len(text.splitlines()) < 40
    (tmp_path / "my_method.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^mmbench (run --plugin .*)$", README, re.M)
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--jobs", "1"])
    assert ended.value.code == 0
    assert "my-method" in (tmp_path / "leaderboards" / "mosi-twin.md").read_text()


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
    for option in cli.commands["run"].params:
        assert option.opts[0] in said, option


def test_every_command_has_help():
    for words in (["--help"], ["run", "--help"], ["data", "import", "--help"]):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0 and "Usage" in result.output


def test_every_hook_is_in_the_guide():
    hooks = [name for name in dir(hookspecs) if name.startswith("mmbench_register")]
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert hooks and all(hook in guide for hook in hooks)


def test_continuous_integration_calls_the_readmes_command():
    command = README.split("<!-- test command -->\n```sh\n")[1].split("\n```")[0]
    assert "tox run -e py,lint,type,pkg,outoftree" in command
    assert "test command" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_says_which_mmbench_this_is():
    assert "not** MMBench, the benchmark of vision-language models" in README
