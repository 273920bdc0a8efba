/** Edits of the reactor, the streams and the frames on them that no test noticed at first. */
import type { Mutant } from "./mutants.ts";

const REACTOR = "shared/reactor/reactor.ts";
const FD_STREAM = "shared/transport/fd-stream.ts";
const FRAMED = "shared/transport/framed.ts";
const READ_BUFFER = "shared/transport/read-buffer.ts";
const REACTOR_TEST = "test/unit/reactor.test.ts";
const STREAMS_TEST = "test/unit/transport-streams.test.ts";
const FRAMED_TEST = "test/unit/transport-framed.test.ts";

export const dataPathMutants: readonly Mutant[] = [
  {
    row: "mutant-R1",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "if (watch !== undefined && watch.serial === this.#events[at + DATA_AT + 1]) {",
    replace: "if (watch !== undefined) {",
    breaks: "an event reaches a later watch of the same descriptor",
  },
  {
    row: "mutant-R3",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "MAX_EVENTS, this.isDue ? 0 : ms);",
    replace: "MAX_EVENTS, ms);",
    breaks: "the thread waits although a handler asked to run again",
  },
  {
    row: "mutant-R9",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "      if (this.#soon.length > 0) this.#runSoon();\n      if (due > 0) {",
    replace: "      if (due > 0) {",
    breaks: "what the light handlers have to send waits for the heavy ones",
  },
  {
    row: "mutant-R10",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "while (called < most && performance.now() - began < TURN_MS);",
    replace: "while (called < most);",
    breaks: "a turn is as long as the work of all that have more to do",
  },
  {
    row: "mutant-R11",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "if (!watch.closed) watch.onReady(0);",
    replace: "watch.onReady(0);",
    breaks: "a handler runs whose watch has ended",
  },
  {
    row: "mutant-R8",
    test: REACTOR_TEST,
    file: REACTOR,
    search: "    this.#events = events;\n    this.#reactor.control",
    replace: "    this.#reactor.control",
    breaks: "events that are no longer wanted are waited for",
  },
  {
    row: "mutant-T1",
    test: STREAMS_TEST,
    file: FD_STREAM,
    search: "{ bytes, at: at + n, length: length - n, hasBegun: n > 0, done }",
    replace: "{ bytes, at, length, hasBegun: n > 0, done }",
    breaks: "bytes that the system has accepted are sent again",
  },
  {
    row: "mutant-T2",
    test: STREAMS_TEST,
    file: FD_STREAM,
    search:
      "    if (this.#isEnding && !this.#hasUnsent) this.#descriptor.end();\n    this.#interest();",
    replace: "    this.#interest();",
    breaks: "no end follows the unsent bytes",
  },
  {
    row: "mutant-T4",
    test: STREAMS_TEST,
    file: FD_STREAM,
    search: "    this.#isBehind = owner.input.end > owner.input.start;\n    this.#resume();\n",
    replace: "    this.#isBehind = owner.input.end > owner.input.start;\n",
    breaks: "bytes that came with the handshake wait for others",
  },
  {
    row: "mutant-T5",
    test: STREAMS_TEST,
    file: FD_STREAM,
    search: "    if (this.#closed) return;\n    this.#resume();\n",
    replace: "    if (this.#closed) return;\n",
    breaks: "an owner without time waits for further bytes",
  },
  {
    row: "mutant-G1",
    test: FRAMED_TEST,
    file: FRAMED,
    search: "return input.start < input.end;",
    replace: "return false;",
    breaks: "messages that time did not suffice for wait for others",
  },
  {
    row: "mutant-G8",
    test: FRAMED_TEST,
    file: FRAMED,
    search: "    if (!this.open) {\n      done();\n      return;",
    replace: "    if (!this.open) {\n      return;",
    breaks: "the buffer of a message that is not sent is lost",
  },
  {
    row: "mutant-B1",
    test: FRAMED_TEST,
    file: READ_BUFFER,
    search: "else if (this.#shared !== undefined && inUse > MOST_KEPT) this.#grow(held);",
    replace: "",
    breaks: "every stream that waits keeps a large buffer",
  },
];
