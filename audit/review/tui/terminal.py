"""The terminal interface of `label-audit review`: one screen, one key per answer."""

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ....core.errors import MerchantGuardError
from ...storage.items import AnswerKind
from ...storage.journal import MAX_COMMENT_CHARACTERS
from .. import wording
from ..card import Card, Reveal
from ..session import Session
from . import painting

_REFRESH_SECONDS = 2.0

_DIALOG_CSS = """
    {name} {{ align: center middle; }}
    {name} > Vertical {{ width: 70; max-width: 90%; height: auto; padding: 1 2; border: round $primary; background: $surface; }}
"""


class CommentScreen(ModalScreen[str | None]):
    """Asks for a comment: enter saves it, escape cancels."""

    CSS = _DIALOG_CSS.format(name="CommentScreen")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", show=False)]

    def compose(self) -> ComposeResult:
        """A line for the comment."""
        with Vertical():
            yield Static("Comment (enter saves, escape cancels)", markup=False)
            yield Input(max_length=MAX_COMMENT_CHARACTERS)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the comment."""
        self.dismiss(event.value.strip() or None)


class HelpScreen(ModalScreen[None]):
    """Shows the keys; any of these closes it."""

    CSS = _DIALOG_CSS.format(name="HelpScreen")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,question_mark,q", "dismiss", show=False)
    ]

    def compose(self) -> ComposeResult:
        """A table of keys."""
        table = Table.grid(padding=(0, 2))
        for key, words in (*wording.HELP, ("q", "quit; every answer is already saved")):
            table.add_row(key, words)
        with Vertical():
            yield Static(table)


class ReviewApp(App[None]):
    """Shows one card after another. `card`: the current item; `reveal`: set once it is answered."""

    CSS_PATH = None
    CSS = """
    Screen { background: $background; }
    #top { height: 1; padding: 0 2; background: $panel; color: $text-muted; }
    #advice { height: 1; padding: 0 2; background: $panel; color: $text-muted; }
    #texts { width: 2fr; }
    .pane { width: 1fr; padding: 1 2; scrollbar-size-vertical: 1; }
    .pane:focus { background: $surface; }
    #side { width: 1fr; min-width: 34; max-width: 64; padding: 1 2; border-left: solid $panel; scrollbar-size-vertical: 1; }
    #policy { height: auto; }
    #reveal { height: auto; margin-top: 1; }
    #message { height: auto; padding: 0 2; color: $error; display: none; }
    #message.shown { display: block; }
    #keys { height: 1; padding: 0 2; background: $panel; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"answer('{kind}')", show=False) for key, kind in wording.KEYS.items()),
        Binding("enter,space", "next", show=False, priority=False),
        Binding("u", "undo", show=False),
        Binding("c", "comment", show=False),
        Binding("m", "more", show=False),
        Binding("question_mark", "help", show=False),
        Binding("q,ctrl+q", "quit", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.card: Card | None = None
        self.reveal: Reveal | None = None
        self._starts: list[int | None] = []

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static(id="top", markup=False)
        with Horizontal():
            with Horizontal(id="texts"):
                for number in range(2):
                    with VerticalScroll(classes="pane", id=f"pane{number}"):
                        yield Static(id=f"text{number}", markup=False)
            with VerticalScroll(id="side"), Vertical():
                yield Static(id="policy", markup=False)
                yield Static(id="reveal", markup=False)
        yield Static(id="message", markup=False)
        yield Static(id="advice", markup=False)
        yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        """Show the first item."""
        self.title = "label-audit"
        self._show_card(self.session.next())
        self.set_interval(_REFRESH_SECONDS, self._show_progress)

    # Keys

    def action_answer(self, kind: AnswerKind) -> None:
        """Write an answer, then show what was hidden; the screen changes only once the answer is on disk."""
        if (
            self.card is None
            or self.reveal is not None
            or not self._try(self.session.answer, self.card, kind)
        ):
            return
        if kind == "skip":
            self._show_card(self.session.next())
            return
        self.reveal = self.session.reveal(self.card)
        self._show()

    def action_next(self) -> None:
        """Go on to the next item, once this one is answered."""
        if self.card is not None and self.reveal is None:
            self._say("Answer first: v violates, n does not violate, t can't tell, s skip")
            return
        self._show_card(self.session.next())

    def action_undo(self) -> None:
        """Undo the last answer and ask again."""
        card = self._try(self.session.undo)
        if card is None:
            self._say("You have no answer to undo")
        else:
            self._show_card(card)

    def action_comment(self) -> None:
        """Ask for a comment and write it."""
        if self.card is not None:
            self.push_screen(CommentScreen(), self._write_comment)

    def _write_comment(self, comment: str | None) -> None:
        if (
            comment
            and self.card is not None
            and self._try(self.session.answer, self.card, "comment", comment)
        ):
            if self.reveal is not None:
                self.reveal = self.session.reveal(self.card)
            self._show()

    def action_more(self) -> None:
        """Show the next part of the texts; after the last part, the first again."""
        if self.card is None:
            return
        self.session.keep(self.card)
        for number, pane in enumerate(self._panes()):
            end = pane.excerpt(self._starts[number]).end
            self._starts[number] = end if end < len(pane.record.text) else 0
            self.query_one(f"#pane{number}", VerticalScroll).scroll_home(animate=False)
        self._show()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    # Screen

    def _try(self, act: Any, *given: Any) -> Any:
        """Call `act`, or show why it failed and leave the screen as it is."""
        try:
            result = act(*given)
        except MerchantGuardError as error:
            self._say(str(error))
            return None
        self._say("")
        return result

    def _say(self, message: str) -> None:
        place = self.query_one("#message", Static)
        place.update(message)
        place.set_class(bool(message), "shown")

    def _show_card(self, card: Card | None) -> None:
        self.card = card
        self.reveal = None
        if card is not None:
            self._starts = [None] * len(card.panes)
            if card.stage == "adjudication":
                self._say("")
        self._show()
        for number in range(2):
            self.query_one(f"#pane{number}", VerticalScroll).scroll_home(animate=False)
        self.query_one("#pane0").focus()

    def _panes(self) -> Any:
        return self.reveal.panes if self.reveal else self.card.panes if self.card else ()

    def _show(self) -> None:
        card = self.card
        self.query_one("#pane1").display = card is not None and len(card.panes) > 1
        if card is None:
            self.query_one("#text0", Static).update(painting.finished(self.session))
            self.query_one("#policy", Static).update("")
            self.query_one("#reveal", Static).update("")
        else:
            for number, pane in enumerate(self._panes()):
                role = ("to review", "to compare")[number] if len(card.panes) > 1 else ""
                text = painting.pane_text(pane, pane.excerpt(self._starts[number]), role)
                self.query_one(f"#text{number}", Static).update(text)
            self.query_one("#policy", Static).update(painting.policy_text(card))
            self.query_one("#reveal", Static).update(self._side_text(card))
        self._show_progress()
        self.query_one("#keys", Static).update(painting.key_line(answered=self.reveal is not None))

    def _side_text(self, card: Card) -> Text:
        if self.reveal is not None:
            return painting.reveal_text(self.reveal)
        if card.stage == "adjudication":
            return painting.answers_text(self.session.reveal(card))
        return Text(
            "The current label and the model's opinion are shown after your answer.", style="dim italic"
        )

    def _show_progress(self) -> None:
        progress = self.session.progress()
        self.query_one("#top", Static).update(painting.top_line(self.session, progress))
        self.query_one("#advice", Static).update(painting.advice(progress.estimates))
