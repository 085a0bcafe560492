"""A conversation, line by line, with commands that change how answers are decoded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from mdlm_core.config.layers import default_layer, layer_of, merge, set_layer
from mdlm_core.config.render import to_dict
from mdlm_core.config.structure import structure
from mdlm_core.errors import MdlmError, UsageError

from .config import DecodeConfig
from .generate import Answering, check_decoding, generate
from .streaming import TextStreamer

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog

    from .template import Message

HELP = """\
/set KEY=VALUE   a setting of decoding, such as /set threshold=0.9 or /set steps=64
/length N        tokens of an answer, at most
/system TEXT     what the model is told first; without a text: nothing
/again           answer the last turn once more, with other draws
/new             forget the conversation
/settings        how answers are decoded
/quit            stop; so does the end of the input"""


class Chat:
    """A conversation with a model.

    With the template llada the model is shown all turns; a model without a chat
    template is shown the last one alone, as it has learned.

    Args:
        model: answers.
        catalog: knows the settings of decoding.
        settings: how to decode, to begin with.
        answer_length: G.
        system: what the model is told first.
        seed: of the first answer; every further one has the next.
        lines: where turns are read; standard input if not given.
        file: where answers go; standard output if not given.
        errors: where errors go if lines are piped in; standard error if not given. On
            a terminal they go where the answers go.

    Raises:
        UsageError: if the settings do not go with the model.
    """

    def __init__(
        self,
        model: Answering,
        catalog: Catalog,
        *,
        settings: DecodeConfig,
        answer_length: int,
        system: str = "",
        seed: int = 0,
        lines: TextIO | None = None,
        file: TextIO | None = None,
        errors: TextIO | None = None,
    ) -> None:
        check_decoding(model, answer_length, settings)
        self.model = model
        self.catalog = catalog
        self.settings = settings
        self.length = answer_length
        self.seed = seed
        self.lines = sys.stdin if lines is None else lines
        self.file = sys.stdout if file is None else file
        self.errors = sys.stderr if errors is None else errors
        self.remembers = model.template == "llada"
        self.turns: list[Message] = []
        self.system(system)

    def run(self) -> int:
        """Answer line after line, until the input ends or /quit.

        Returns:
            The exit code: that of the first error if lines are piped in, else 0.
        """
        asks = self.lines.isatty()
        code = 0
        if asks:
            memory = "" if self.remembers else "; each turn stands for itself"
            self._print(f"/help lists the commands{memory}")
        while True:
            if asks:
                self._print("> ", end="")
            try:
                line = self.lines.readline()
            except KeyboardInterrupt:
                line = ""
            if not line:
                return code
            try:
                if not self.take(line.strip()):
                    return code
            except KeyboardInterrupt:
                self._print("\n(stopped)")
            except MdlmError as error:
                if asks:
                    self._print(f"{error}")
                    continue
                print(f"error: {error}", file=self.errors, flush=True)
                code = code or error.exit_code

    def take(self, line: str) -> bool:
        """Answer a line or do what it says; return whether to go on."""
        if not line.startswith("/"):
            if line:
                self.ask(line)
            return True
        name, _, rest = line[1:].partition(" ")
        if name in ("quit", "exit"):
            return False
        commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: self._print(HELP),
            "set": self.set,
            "length": self.set_length,
            "system": self.system,
            "again": lambda _: self.again(),
            "new": lambda _: self.forget(),
            "settings": lambda _: self.show(),
        }
        if name not in commands:
            known = ", ".join(f"/{command}" for command in (*commands, "quit"))
            raise UsageError(f"there is no command /{name}; there are {known}")
        commands[name](rest.strip())
        return True

    def ask(self, text: str) -> None:
        """Answer a turn, and remember both."""
        turns: list[Message] = [*self.turns, {"role": "user", "content": text}]
        shown = turns if self.remembers else turns[-1:]
        answer = generate(
            self.model,
            [shown],
            answer_length=self.length,
            settings=self.settings,
            seed=self.seed,
            streamer=TextStreamer(self.model.tokenizer, file=self.file),
        )[0]
        self.turns = [*turns, {"role": "assistant", "content": answer.text}]
        self.seed += 1
        if self.lines.isatty():
            self._print(
                f"({answer.nfe} evaluations, {answer.tokens_per_forward:.2f} tokens "
                f"each)"
            )

    def again(self) -> None:
        """Answer the last turn once more."""
        if len(self.turns) < 2 or self.turns[-1]["role"] != "assistant":
            raise UsageError("nothing has been answered yet")
        *self.turns, asked, _ = self.turns
        self.ask(asked["content"])

    def forget(self) -> None:
        """Forget the conversation, but not what the model is told first."""
        self.turns = [turn for turn in self.turns if turn["role"] == "system"]

    def system(self, text: str) -> None:
        """Begin anew, and tell the model `text` first."""
        if text and not self.remembers:
            raise UsageError(
                "this model has no chat template, so that it cannot be told anything "
                "first"
            )
        self.turns = [{"role": "system", "content": text}] if text else []

    def set(self, assignment: str) -> None:
        """Change a setting of decoding."""
        if "=" not in assignment:
            raise UsageError("/set takes KEY=VALUE, such as /set threshold=0.9")
        now = {"sampler": {"name": "llada", **to_dict(self.settings)}}
        layer = merge(default_layer(), layer_of(now, "the settings so far"))
        layer = merge(layer, set_layer([f"sampler.{assignment}"]))
        settings = structure(layer, self.catalog).sampler.config
        assert isinstance(settings, DecodeConfig)
        check_decoding(self.model, self.length, settings)
        self.settings = settings

    def set_length(self, number: str) -> None:
        """Change how long an answer can be."""
        if not number.isdecimal():
            raise UsageError("/length takes a number, such as /length 128")
        check_decoding(self.model, int(number), self.settings)
        self.length = int(number)

    def show(self) -> None:
        """Print how answers are decoded."""
        settings = {"length": self.length, **to_dict(self.settings)}
        for key, value in settings.items():
            self._print(f"{key} = {value}")

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self.file, flush=True)
