"""r1reward VERB: the parser made from all verbs, logging, and the exit status of every error."""

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from errno import EDQUOT, ENOSPC
from typing import Any

from r1reward import __version__
from r1reward.cli import compare, doctor, evaluate, model, plan, recipe, report, stages, submit
from r1reward.cli.data import actions as data
from r1reward.cli.verb import Verb, add_verbs
from r1reward.engines.proxies import keep_own_hosts_direct
from r1reward.errors import InputError, ServiceError, StoppedError

# In the order of --help. A new verb is a file beside this one and a name here.
FILES = (submit, evaluate, data, compare, report, plan, model, doctor, recipe)
VERBS = (*stages.VERBS, *(file.VERB for file in FILES))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 on success, 1 when a run fails or a verb answers a question with no, 2 for wrong input,
    and 130 after Ctrl-C or SIGTERM.
    """
    verb, parsed = parse(arguments)
    set_up(verb)
    try:
        return verb.run(parsed) or 0
    except KeyboardInterrupt:
        print(f"stopped; the same command {verb.after_ctrl_c}", file=sys.stderr)
        return 130
    except InputError as error:
        return explain([error])
    except Exception as error:
        from r1reward.actors.launch import root_causes

        causes = root_causes(error)
        if all(isinstance(cause, StoppedError) for cause in causes):
            print(f"{causes[0]}; the same command goes on from there", file=sys.stderr)
            return 130
        return explain(causes)


def parse(arguments: Sequence[str] | None) -> tuple[Verb, Any]:
    """Returns the chosen verb and the dataclass of its arguments.

    Overrides may also stand behind an option, where argparse does not look for them any more.
    """
    parser = argparse.ArgumentParser(
        prog="r1reward", description="Train generative multimodal reward models with RL."
    )
    parser.add_argument("--version", action="version", version=__version__)
    add_verbs(parser, "VERB", VERBS)
    namespace, rest = parser.parse_known_args(arguments)
    values = vars(namespace)
    if rest and ("overrides" not in values or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        values["overrides"] = [*values["overrides"], *rest]
    verb: Verb = values.pop("chosen_verb")
    try:
        return verb, verb.arguments(**values)
    except argparse.ArgumentError as error:
        parser.error(str(error))


def set_up(verb: Verb) -> None:
    """Signals, warnings and logging, before any library that reads their settings is imported."""
    if verb.sigterm_is_ctrl_c:
        from r1reward.runs.signals import sigterm_is_ctrl_c

        sigterm_is_ctrl_c()
    keep_own_hosts_direct(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal cannot show is shown as its code: people's texts have all letters.
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_SILENT_DEPRECATION", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "httpx2", "openai", "ray", "asyncio", "vllm", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def explain(causes: Sequence[BaseException]) -> int:
    """Wrong input and failed services get a sentence; everything else its traceback as well."""
    for cause in causes:
        if isinstance(cause, InputError | ServiceError):
            print(cause, file=sys.stderr)
        elif isinstance(cause, OSError) and cause.errno in (ENOSPC, EDQUOT):
            where = cause.filename or "a file"
            print(
                f"{where} cannot be written ({cause.strerror}): make room, then the same command "
                "goes on",
                file=sys.stderr,
            )
        else:
            logging.error("%s: %s", type(cause).__name__, cause, exc_info=cause)
    return 2 if all(isinstance(cause, InputError) for cause in causes) else 1
