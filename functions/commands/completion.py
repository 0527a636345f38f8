"""The command `zeroserve completion bash|zsh|fish`: a script for the shell, made from the commands' own parsers.

source <(zeroserve completion bash)        zeroserve completion fish | source
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module

from functions.cli import CLUSTER_COMMANDS, COMMANDS
from functions.commands.cluster import delete_parser, list_parser, status_parser
from functions.commands.deploy_options import deploy_parser
from functions.commands.traffic import promote_parser, rollback_parser, split_parser
from functions.config import FLAGS
from functions.deployer.settings import FLAGS as DEPLOYER_FLAGS
from functions.flags import UsageError

SHELLS = ("bash", "zsh", "fish")

Options = Mapping[str, str]
"""Option with its hyphens -> what it is."""


def main(words: Sequence[str]) -> int:
    """Prints the script.

    Raises:
        UsageError: a shell that is not known.
    """
    if {"--help", "-h"} & set(words):
        print(__doc__, end="")
        return 0
    if list(words) not in [[shell] for shell in SHELLS]:
        found = f"found {' '.join(words)!r}" if words else "no shell is named"
        raise UsageError(f"completion: {found}; wanted {', '.join(SHELLS)}")
    print(script(words[0], options()), end="")
    return 0


def options() -> dict[str, Options]:
    """Command -> what may follow it: its second words, and the options of all of them."""
    found: dict[str, Options] = {"settings": {"--markdown": ""}, "completion": dict.fromkeys(SHELLS, "")}
    found["serve"] = {f"--{name}": flag.text for name, flag in FLAGS.items()}
    found["deployer"] = {f"--{name}": flag.text for name, flag in DEPLOYER_FLAGS.items()}
    found |= {command: _options(parser) for command, parser in _cluster_parsers().items()}
    for command in COMMANDS.keys() - found.keys():
        parsers: Mapping[str, argparse.ArgumentParser] = import_module(COMMANDS[command]).parsers()
        words = {word: parser.description or "" for word, parser in parsers.items() if word}
        for parser in parsers.values():
            words |= _options(parser)
        found[command] = words
    assert found.keys() >= CLUSTER_COMMANDS  # noqa: S101  each has a parser there
    return dict(sorted(found.items()))


def _cluster_parsers() -> dict[str, argparse.ArgumentParser]:
    return {
        "declare": deploy_parser("declare"),
        "delete": delete_parser(),
        "deploy": deploy_parser(),
        "list": list_parser(),
        "promote": promote_parser(),
        "rollback": rollback_parser(),
        "split": split_parser(),
        "status": status_parser(),
    }


def script(shell: str, commands: Mapping[str, Options]) -> str:
    """The script of one shell; zsh runs bash's."""
    if shell == "fish":
        return _fish(commands)
    begin = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return begin + _bash(commands)


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    # argparse shows its actions nowhere else; `_actions` has been what tools read since Python 2.7.
    return {
        word: (action.help or "").replace("%(default)s", str(action.default))
        for action in parser._actions
        for word in action.option_strings
        if word.startswith("--")
    }


def _bash(commands: Mapping[str, Options]) -> str:
    cases = "".join(f"    {command}) words={_quoted(' '.join(words))} ;;\n" for command, words in commands.items())
    return (
        "_zeroserve() {\n"
        '  local words="" word="${COMP_WORDS[COMP_CWORD]}"\n'
        '  if [ "$COMP_CWORD" -eq 1 ]; then\n'
        f"    words={_quoted(' '.join(commands))}\n"
        '  else case "${COMP_WORDS[1]}" in\n'
        f"{cases}"
        "  esac; fi\n"
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))\n'
        "}\n"
        "complete -o default -F _zeroserve zeroserve\n"
    )


def _fish(commands: Mapping[str, Options]) -> str:
    lines = [f"complete -c zeroserve -n __fish_use_subcommand -a {command}" for command in commands]
    for command, words in commands.items():
        seen = f"-n '__fish_seen_subcommand_from {command}'"
        for word, text in words.items():
            what = f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c zeroserve {seen} {what}" + (f" -d {_quoted(text)}" if text else ""))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """In single quotes, where nothing means anything."""
    return "'" + text.replace("\\", "").replace("'", "") + "'"
