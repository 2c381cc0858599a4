"""One renderer for training, evaluation and the classifier's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from pipeline.data.rendering.assembly import Assembly, Joined, Rendered
from pipeline.data.rendering.encoding import Encoder, Ids
from pipeline.data.rendering.probing import controls_of
from pipeline.data.rendering.template import (
    ChatTemplate,
    Message,
    as_template,
    source_of,
    tools_as_template,
)
from pipeline.data.rendering.turns import NO_PREFIX, Draft, drafts, learned_turns
from pipeline.data.rows import Row, RowProblem, row_text

Result = list[Rendered] | RowProblem


class Renderer:
    """Turns rows into ids with one tokenizer and one template."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        causal: bool,
        system: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        controls: Controls | None = None,
    ) -> None:
        """``controls``: the rule that was kept with the model; None: found for the tokenizer."""
        self.tokenizer = tokenizer
        self.causal = causal
        # Whether an answer opens with a thought; None: the template has no such argument.
        self.thinking: bool | None = (template_kwargs or {}).get("enable_thinking")
        self.controls = controls or controls_of(tokenizer, tokenizer.chat_template)
        self._system = system
        self._encoder = Encoder(tokenizer)
        self._template = ChatTemplate(tokenizer, template_kwargs or {})
        source = source_of(tokenizer.chat_template)
        self._assembly = Assembly(tokenizer, self._encoder, source)
        self._around: tuple[Ids, Ids] | None = None
        self._proved: set[bool] = set()

    def text(self, text: str) -> Rendered:
        """A document: every token is supervised; a causal one ends with end-of-text.

        Raises:
            RowProblem: the text is not Unicode.
        """
        found = self.texts([text])[0]
        if isinstance(found, RowProblem):
            raise found
        return found

    def texts(self, texts: Sequence[str]) -> list[Rendered | RowProblem]:
        """Documents, in order; see ``text``."""
        whole = [self.controls.neutralise(text) for text in texts]
        good = [text for text in whole if _is_unicode(text)]
        made = iter(self._encoder.many(good))
        before, after = self._special()
        eos = self.tokenizer.eos_token_id if self.causal else None
        found: list[Rendered | RowProblem] = []
        for text in whole:
            if not _is_unicode(text):
                found.append(RowProblem("text that is not Unicode (a lone surrogate)"))
                continue
            ids = [*before, *next(made), *after]
            if eos is not None and (not ids or ids[-1] != eos):
                ids.append(eos)
            found.append(Rendered(ids, [1] * len(ids)))
        return found

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Ids of the conversation so far and the generation prompt: what serving makes.

        Raises:
            RowProblem: the template refuses the conversation.
            ModelError: the tokenizer has no template.
        """
        made, given = self._prepared(messages, tools)
        return self._encoder.one(self._template.text(made, tools=given, prompt=True))

    def conversation(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        loss_on: str = "assistant",
    ) -> list[Rendered]:
        """One conversation as rows; see ``conversations``.

        Raises:
            RowProblem: it cannot be learned from.
        """
        found = self.conversations([{"messages": messages, "tools": tools}], loss_on)[0]
        if isinstance(found, RowProblem):
            raise found
        return found

    def conversations(self, rows: Sequence[Row], loss_on: str = "assistant") -> list[Result]:
        """Conversations as rows, in order, or why one cannot be learned from.

        One conversation gives several rows where one row would hold ids before a learned turn
        that serving never makes; what follows the last learned turn is left out.

        Args:
            rows: each with ``messages`` and, where there are some, ``tools``.
            loss_on: ``assistant``, ``last`` or ``flag``, see ``turns.learned_turns``; or
                ``all``: every token, whatever a turn's ``train`` says.

        Raises:
            ModelError: the template fails for the simplest conversation, or cannot be learned
                from: nothing ends a turn, or its generation prompt is no prefix of a turn.
        """
        self._prove(learned=loss_on != "all")
        planned: list[list[Draft] | RowProblem] = []
        for row in rows:
            try:
                planned.append(self._drafts(row, loss_on))
            except RowProblem as problem:
                planned.append(problem)
        flat = [draft for plan in planned if isinstance(plan, list) for draft in plan]
        made = iter(self._assembly.rows(flat))
        found: list[Result] = []
        for row, plan in zip(rows, planned, strict=True):
            if isinstance(plan, RowProblem):
                found.append(plan)
                continue
            parts = [next(made) for _ in plan]
            done = [part for part in parts if isinstance(part, Rendered)]
            found.append(done if len(done) == len(parts) else self._apart(row, loss_on, parts))
        return found

    def question(self, row: str | Mapping[str, Any]) -> list[int]:
        """Ids from which a classifier reads, and after which a label-writer writes.

        Args:
            row: a text, or a row with ``messages`` or ``text``.

        Raises:
            RowProblem: the template refuses the conversation, or the text is not Unicode.
        """
        if self.tokenizer.chat_template is None:
            text = self.controls.neutralise(
                row if isinstance(row, str) else str(row.get("text") or row_text(row))
            )
            if not _is_unicode(text):
                raise RowProblem("text that is not Unicode (a lone surrogate)")
            before, after = self._special()
            return [*before, *self._encoder.one(text), *after]
        if isinstance(row, str) or "messages" not in row:
            return self.prompt(self.messages(row if isinstance(row, str) else str(row["text"])))
        return self.prompt(row["messages"], row.get("tools"))

    def messages(self, text: str, answer: str | None = None) -> list[Message]:
        """One exchange with the recipe's system text before it."""
        found = [] if self._system is None else [{"role": "system", "content": self._system}]
        found.append({"role": "user", "content": text})
        if answer is not None:
            found.append({"role": "assistant", "content": answer})
        return found

    def with_system(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, opened by the recipe's system text where they have none."""
        if self._system is None or (messages and messages[0]["role"] == "system"):
            return list(messages)
        return [{"role": "system", "content": self._system}, *messages]

    def _prepared(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[Message], list[dict[str, Any]] | None]:
        """What the template is given: system text put in, control strings neutralised."""
        try:
            own = self.controls.messages(self.with_system(messages))
            given = tools_as_template(self.controls.value(list(tools))) if tools else None
            return [as_template(message) for message in own], given
        except (ValueError, RecursionError) as error:
            raise RowProblem(str(error) or "nested too deeply") from None

    def _drafts(self, row: Row, loss_on: str, apart: frozenset[int] = frozenset()) -> list[Draft]:
        messages = self.with_system(row["messages"])
        made, tools = self._prepared(messages, row.get("tools"))
        if loss_on == "all":
            return [Draft(self._template.text(made, tools=tools), None)]
        learned = learned_turns(messages, loss_on)

        def render(part: Sequence[Message], prompt: bool) -> str:
            return self._template.text(part, tools=tools, prompt=prompt)

        return drafts(render, made, learned, apart)

    def _apart(self, row: Row, loss_on: str, parts: Sequence[Rendered | Joined]) -> Result:
        """A row again, in which the turns that the tokenizer joins stand last, and are cut."""
        joined = [part for part in parts if isinstance(part, Joined)]
        try:
            plan = self._drafts(row, loss_on, frozenset[int]().union(*(j.turns for j in joined)))
        except RowProblem as problem:
            return problem
        done: list[Rendered] = []
        for draft in plan:
            first = self._assembly.rows([draft])[0]
            if isinstance(first, Joined):
                # Its own prompt's ids, then the ids of the rest: as an engine would go on.
                forced = Draft(draft.text, draft.turns, first.bounds)
                first = self._assembly.rows([forced])[0]
            if isinstance(first, Joined):
                return RowProblem("its turns cannot be told apart in ids")
            done.append(first)
        return done

    def _special(self) -> tuple[Ids, Ids]:
        """Ids that the tokenizer puts before and after a document by itself."""
        if self._around is None:
            plain = self._encoder.one("a")
            whole = list(self.tokenizer("a")["input_ids"])
            place = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
            self._around = whole[:place], whole[place + len(plain) :]
        return self._around

    def _prove(self, *, learned: bool) -> None:
        """The template with the simplest conversation, once.

        Raises:
            ModelError: it is not fit, with a remedy.
        """
        if learned in self._proved:
            return
        question, answer = "Question", "Answer"
        simple, _ = self._prepared(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], None
        )
        try:
            whole = self._template.text(simple)
            prompt = self._template.text(simple[:-1], prompt=True)
        except RowProblem as problem:
            system = " or leave out data.system" if self._system is not None else ""
            raise ModelError(
                f"chat_template: fails for a question and its answer ({problem}); "
                f"set data.chat_template to another Jinja file{system}"
            ) from None
        if learned:
            self._require_turn(whole, prompt, answer)
        self._proved.add(learned)

    def _require_turn(self, whole: str, prompt: str, answer: str) -> None:
        if not whole.startswith(prompt):
            raise ModelError(f"chat_template: {NO_PREFIX}")
        rest = whole[len(prompt) :]
        end = rest.rpartition(answer)[2]
        ends = (*self.controls.always, *self.controls.outside_assistant)
        if answer not in rest or not any(control in end for control in ends):
            raise ModelError(
                "chat_template: no token ends the assistant's turn, so a model that learns from it "
                "would never stop; set data.chat_template to one that ends turns"
            )


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
