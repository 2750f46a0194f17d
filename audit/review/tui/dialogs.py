"""The two dialogs of the terminal interface."""

from typing import ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ...storage.journal import MAX_COMMENT_CHARACTERS
from .. import wording

_CSS = """
    {name} {{ align: center middle; }}
    {name} > Vertical {{ width: 70; max-width: 90%; height: auto; padding: 1 2; border: round $primary; background: $surface; }}
"""


class CommentScreen(ModalScreen[str | None]):
    """Asks for one comment: enter keeps it, escape does not."""

    CSS = _CSS.format(name="CommentScreen")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", show=False)]

    def compose(self) -> ComposeResult:
        """A line to type in."""
        with Vertical():
            yield Static("Comment (enter keeps it, escape leaves)", markup=False)
            yield Input(max_length=MAX_COMMENT_CHARACTERS)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hand the comment back."""
        self.dismiss(event.value.strip() or None)


class HelpScreen(ModalScreen[None]):
    """Shows the keys; any of these closes it."""

    CSS = _CSS.format(name="HelpScreen")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,question_mark,q", "dismiss", show=False)
    ]

    def compose(self) -> ComposeResult:
        """A table of keys."""
        table = Table.grid(padding=(0, 2))
        for key, words in (*wording.HELP, ("q", "quit: every answer is already saved")):
            table.add_row(key, words)
        with Vertical():
            yield Static(table)
