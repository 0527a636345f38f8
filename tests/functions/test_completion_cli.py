"""The shell is told of every command, and of the options of those that have some."""

import shutil
import subprocess
import sys

import pytest

from functions.cli import CLUSTER_COMMANDS, COMMANDS, main
from functions.commands.completion import SHELLS, options, script


def test_every_command_is_there():
    found = options()
    assert found.keys() == {*COMMANDS, *CLUSTER_COMMANDS, "serve", "settings"}
    assert all(found.values())
    assert {"install", "run", "--help", "--dry-run"} <= found["gateway"].keys()
    assert {"install", "--part-rows", "--image"} <= found["batch"].keys()
    assert "--event_secret_file" in found["deployer"]
    assert "--rollout" in found["deploy"]
    assert "--max_batch_size" in found["serve"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("zeroserve deplo", "deploy"), ("zeroserve deploy --roll", "--rollout"), ("zeroserve list --j", "--json")],
)
def test_bash_completes(words, wanted):
    asked = (
        f"source /dev/stdin; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _zeroserve;"
        ' echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", asked],
        input=script("bash", options()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert wanted in done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "zeroserve" in capsys.readouterr().out


def test_another_shell_is_refused(capsys):
    assert main(["completion", "tcsh"]) != 0
    assert "bash, zsh, fish" in capsys.readouterr().err


def test_a_server_does_not_load_it():
    code = "import sys, functions.cli; sys.exit('functions.commands.completion' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
