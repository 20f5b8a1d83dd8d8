"""The engine: requests in, pieces of answers out, many at a time on one thread.

Comes in: `Request`s, from any thread. Goes out: events, by each request's own `deliver`, which the engine's thread
calls: a `Piece` for every token, then one `End` or `Fault`, after which nothing of the request is left here. Between
two steps of generation, requests whose clients left are let go and waiting ones come a piece closer, first come first
served; every step gives each row its next token. A row's tokens depend on its own request alone. Knows nothing of HTTP
or JSON.

On a CPU no other thread that lives on may compute with torch: OpenMP keeps a team of threads for each that did, and
when all teams together have more threads than there are processors, libgomp's wait for work by sleeping (its throttled
spin count), which doubles the time of a step of small products.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from sightline.data.processor import Processor
from sightline.infer.generate import context_of, without_placeholder
from sightline.infer.lanes import Lane
from sightline.infer.memory import Memory
from sightline.infer.sampling import choose
from sightline.model.cache import stackable
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.arrivals import FAULTS, Arrivals, Row
from sightline.serve.figures import Figures
from sightline.serve.request import End, Fault, Piece, Request, chances_of
from sightline.serve.shelf import Shelf


class Engine:
    """Answers requests until it is closed. `began` and `stepped`: when its present work did, and its last step ended.

    Args:
        rows: requests that are answered at once; the others wait.
        remembered: conversations whose next turn starts where they ended.
        told: called with one line, without words of requests, when something unexpected happens.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        *,
        rows: int = 16,
        remembered: int = 16,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.figures = Figures()
        self.context = context_of(model)
        self.rows = rows
        self.began = self.stepped = time.monotonic()
        self._model, self._processor, self._told = model.eval(), processor, told
        self._together = stackable(model.language.config)
        self._shelf = Shelf(model, image_tokens=processor.settings.image_tokens, capacity=remembered)
        self._open: set[Request] = set()  # all that were not told their end
        self._waiting: deque[Request] = deque()
        self._arrivals = Arrivals(model, self._shelf, self.figures, fail=self._fail)
        self._rows: dict[int, Row] = {}
        self._lanes: list[Lane] = []
        self._bell = threading.Condition()
        self._probed = self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are being answered, and that wait."""
        return len(self._rows) + len(self._arrivals), len(self._waiting)

    def submit(self, request: Request) -> None:
        """Queues a request."""
        with self._bell:
            if not self._closing and self.alive:
                self._open.add(request)
                self._waiting.append(request)
                self._bell.notify()
                return
        request.deliver(Fault(code="stopping"))

    def probe(self) -> None:
        """Asks for a step of the model even when there is nothing to answer: `stepped` tells when it was done."""
        with self._bell:
            self._probed = True
            self._bell.notify()

    def close(self, *, seconds: float = 10.0) -> None:
        """Ends the thread after the step it is in, for which it waits; all requests get the fault `stopping`."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        self._thread.join(seconds)

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            while self._has_work():
                self._let_go()
                self._admit()
                for lane in list(self._lanes):
                    self._step(lane)
        finally:
            with self._bell:
                self._closing = True
            for request in list(self._open):
                self._end(request, Fault(code="stopping"))
            self._arrivals.drop(self._arrivals.requests)
            for kept in (self._rows, self._waiting, self._lanes):
                kept.clear()

    def _has_work(self) -> bool:
        """Waits until there is something to do; False when the engine closes."""
        with self._bell:
            while not (any(self.load) or self._probed or self._closing):
                self._bell.wait()
            probed, self._probed = self._probed, False
        self.began = time.monotonic()
        if probed and not self.load[0] and not self._closing:
            device = next(self._model.parameters()).device
            self._model.decode(self._model.embed(torch.zeros(1, 1, dtype=torch.long, device=device), None))
            self.stepped = time.monotonic()
        return not self._closing

    # Coming and going

    def _let_go(self) -> None:
        """Ends what nobody waits for any more, and what has taken too long."""
        now = time.monotonic()

        def fault(request: Request) -> Fault | None:
            code = "cancelled" if request.cancelled else "timeout" if now > request.deadline else None
            return None if code is None else Fault(code=code)

        def faults(requests: Iterable[Request]) -> dict[Request, Fault]:
            return {request: found for request in requests if (found := fault(request)) is not None}

        with self._bell:
            gone = faults(self._waiting)
            for request in gone:
                self._waiting.remove(request)
        gone |= faults(self._arrivals.requests)
        self._arrivals.drop(gone)
        for request, end in gone.items():
            self._end(request, end)
        for lane in list(self._lanes):
            over = {row: found for row in lane.rows if (found := fault(self._rows[row].request)) is not None}
            self._leave(lane, over)

    def _admit(self) -> None:
        """Takes in as many waiting requests as there is room for, and brings them a piece closer to their tokens."""
        with self._bell:
            count = min(self.rows - self.load[0], len(self._waiting))
            joining = [self._waiting.popleft() for _ in range(count)]
        self._arrivals.add(joining)
        if not self._arrivals:
            return
        for row, lane in self._arrivals.step():
            try:
                self._gather(lane)
            except FAULTS as error:
                self._fail(row.request, error)
                continue
            self._rows[row.number] = row
            self.figures.prompt_tokens += len(row.request.ids)
            self.figures.reused += row.reused
        self.stepped = time.monotonic()

    def _gather(self, lane: Lane) -> None:
        if self._lanes and self._together:
            self._lanes[0].join([lane])
        else:
            self._lanes.append(lane)

    def _leave(self, lane: Lane, ends: Mapping[int, End | Fault]) -> None:
        """Rows that are over leave their lane; what they have been through is kept for the conversation's next turn."""
        for number, end in ends.items():
            row = self._rows.pop(number)
            if not (isinstance(end, Fault) and end.code in ("failed", "memory")):
                length = lane.cache.get_seq_length() - lane.padding[lane.rows.index(number)]
                self._remember(row, lane, number, length)
            self._end(row.request, end)
        staying = [number for number in lane.rows if number not in ends]
        if not staying:
            self._lanes.remove(lane)
            return
        try:
            lane.keep(staying)
        except FAULTS as error:  # some layers may have let rows go and others not: nobody can go on with it
            self._lanes.remove(lane)
            for number in staying:
                self._fail(self._rows.pop(number).request, error)

    def _remember(self, row: Row, lane: Lane, number: int, length: int) -> None:
        try:
            own = lane.copied(number, length, self._model.language.config)
        except FAULTS as error:  # the next turn computes it anew
            own = None
            self._make_room(error)
        memory = Memory(image_tokens=self._processor.settings.image_tokens, features=row.features)
        if own is not None:
            memory.ids, memory.cache = row.ids[:length], own.cache
        if own is not None or row.features is not None:
            self._shelf.put(row.request.pictures, memory)

    def _end(self, request: Request, end: End | Fault) -> None:
        self._open.discard(request)
        self.figures.ended[end.reason if isinstance(end, End) else end.code] += 1
        self.figures.answer.observe(time.monotonic() - request.arrived)
        request.deliver(end)

    def _fail(self, request: Request, error: BaseException) -> None:
        self._end(request, self._fault(error))

    def _fault(self, error: BaseException) -> Fault:
        """What an error means for the one request that it ends."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" at {place.tb_frame.f_code.co_qualname}:{place.tb_lineno}"
        self._told(f"a request failed alone: {type(error).__name__}{where}")
        return Fault(code="memory" if self._make_room(error) else "failed")

    def _make_room(self, error: BaseException) -> bool:
        """Whether memory was short; then what was kept for later turns goes."""
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if short:
            self._shelf.clear()
        return short

    # One step

    def _step(self, lane: Lane) -> None:
        """Gives every row of a lane its next token, lets go the rows that are over, and computes what follows."""
        # Unguarded: here the engine waits for its device, whose own errors are no single request's.
        logits = without_placeholder(lane.logits, self._model.image_token_id)
        best = logits.argmax(-1)  # of a row that is no number anywhere: that place
        likeliest, sound = best.tolist(), logits.gather(-1, best[:, None]).isfinite().squeeze(-1).tolist()
        ends: dict[int, End | Fault] = {}
        going: dict[int, int] = {}
        for place, number in enumerate(lane.rows):
            end: End | Fault | None = Fault(code="failed")  # where the logits say nothing
            try:
                if sound[place]:
                    end = self._next(self._rows[number], logits[place], likeliest[place])
            except FAULTS as error:
                end = self._fault(error)
            if end is None:
                going[number] = self._rows[number].answer[-1]
            else:
                ends[number] = end
        self._leave(lane, ends)
        if lane not in self._lanes:
            return
        try:
            lane.step(self._model, [going[number] for number in lane.rows])
        except FAULTS as error:
            self._go_on_alone(lane, going, error)
        self.figures.steps += 1
        self.stepped = time.monotonic()

    def _next(self, row: Row, logits: Tensor, likeliest: int) -> End | None:
        """Chooses a row's next token from logits [V] and tells it; returns the end of an answer that it ends."""
        request, token = row.request, likeliest
        if request.sampling.temperature > 0:
            token = int(choose(logits[None], request.sampling, None if row.generator is None else [row.generator]))
        row.answer.append(token)
        self.figures.tokens += 1
        if len(row.answer) == 1:
            self.figures.first_token.observe(time.monotonic() - request.arrived)
        text = row.words.push(token)
        full = len(row.answer) == request.sampling.max_new_tokens or len(row.ids) > self.context
        over = row.words.over or full
        if over:
            text += row.words.finish()
        chances = () if request.top is None else chances_of(logits, token, request.top)
        request.deliver(Piece(text=text, chances=chances))
        if not over:
            return None
        return End(
            reason="stop" if row.words.over else "length",
            prompt_tokens=len(request.ids),
            tokens=len(row.answer),
            reused=row.reused,
        )

    def _go_on_alone(self, lane: Lane, going: dict[int, int], error: BaseException) -> None:
        """After a step that failed: every row takes it by itself, and those that fail again are over."""
        self._lanes.remove(lane)
        for number in lane.rows:
            row = self._rows[number]
            try:
                own = lane.copied(number, len(row.ids) - 1, self._model.language.config)
                if own is None:  # its layers cannot go back to where the step began
                    raise error
                own.step(self._model, [going[number]])
                self._gather(own)
            except FAULTS as fault:
                del self._rows[number]
                self._fail(row.request, fault)
