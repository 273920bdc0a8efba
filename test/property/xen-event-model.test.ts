import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventChannels } from "../../device/xen/event-channel.ts";
import { cases, holds } from "../support/counts.ts";

// A guest's event stands for work, which exists from `send` until a turn sees it. No order of steps
// may leave work that no turn will see.

type What = "send" | "mask" | "unmask" | "honest" | "spurious" | "tick";
const SELF = 0x7ff0;

/** A port's handler: idle, in a turn, or delayed after a spurious turn. */
type State = "idle" | "turn" | "delayed";

class Stage {
  readonly events: EventChannels;
  readonly #guest: number[] = [];
  readonly #backend: number[] = [];
  readonly unseen = [0, 0];
  readonly masked = [false, false];
  readonly states: State[] = ["idle", "idle"];
  /** Spurious turns in a row, by port. */
  readonly #row = [0, 0];
  /** Number of turns in which the handler sends to itself and ends the turn before it returns. */
  readonly #within: number[];
  turns = 0;
  sends = 0;
  #clock = 0;

  constructor(within: readonly [number, number] = [0, 0]) {
    this.#within = [...within];
    this.events = new EventChannels({ now: () => this.#clock, maxPorts: 4 });
    this.events.attach(1, () => {});
    for (const i of [0, 1]) {
      this.#guest[i] = this.events.allocUnbound(1, SELF, 0);
      this.#backend[i] = this.events.bindInterdomain(0, 1, this.#guest[i]!);
      this.events.bindHandler(0, this.#backend[i]!, () => this.#turn(i));
      // Binding causes one turn, which ends before the story begins.
      this.#eoi(i, false);
    }
  }

  #turn(i: number): void {
    if (this.states[i] !== "idle") throw new Error(`port ${i}: a turn while ${this.states[i]}`);
    if (this.masked[i]) throw new Error(`port ${i}: a turn behind the mask`);
    this.states[i] = "turn";
    this.turns++;
    this.unseen[i] = 0;
    if (this.#within[i] === 0) return;
    this.#within[i]!--;
    this.#send(i);
    this.#eoi(i, false);
  }

  #send(i: number): void {
    this.sends++;
    this.unseen[i]!++;
    this.events.send(1, this.#guest[i]!);
  }

  #eoi(i: number, spurious: boolean): void {
    if (this.states[i] === "turn") {
      this.#row[i] = spurious ? this.#row[i]! + 1 : 0;
      this.states[i] = this.#row[i]! > 1 ? "delayed" : "idle";
    }
    this.events.eoi(0, this.#backend[i]!, spurious);
  }

  step(what: What, i: number): void {
    if (what === "send") this.#send(i);
    else if (what === "honest" || what === "spurious") this.#eoi(i, what === "spurious");
    else if (what === "mask") {
      this.masked[i] = true;
      this.events.mask(0, this.#backend[i]!);
    } else if (what === "unmask") {
      this.masked[i] = false;
      this.events.unmask(0, this.#backend[i]!);
    } else {
      this.#clock += 10_000;
      for (const p of [0, 1]) if (this.states[p] === "delayed") this.states[p] = "idle";
      this.events.tick(this.#clock);
    }
  }

  /** A port with unseen work and no turn to come. */
  lost(): number | undefined {
    for (const i of [0, 1]) {
      if (this.unseen[i]! > 0 && !this.masked[i] && this.states[i] === "idle") return i;
    }
    return undefined;
  }

  /** Completes all open steps. */
  settle(): void {
    for (const i of [0, 1]) this.step("unmask", i);
    for (let round = 0; round < 3; round++) {
      this.step("tick", 0);
      for (const i of [0, 1]) this.step("honest", i);
    }
  }
}

const STEPS: readonly (readonly [What, number])[] = [
  ["send", 0],
  ["mask", 0],
  ["unmask", 0],
  ["honest", 0],
  ["spurious", 0],
  ["tick", 0],
  ["send", 1],
  ["mask", 1],
  ["unmask", 1],
  ["honest", 1],
  ["spurious", 1],
];
/** Steps on port 0, then steps on no port. By symmetry only these need to come first. */
const FIRST = 6;

function check(stage: Stage, story: () => string): void {
  const lost = stage.lost();
  if (lost !== undefined) throw new Error(`port ${lost} lost a wake-up: ${story()}`);
}

/** Runs the story whose steps are the digits of `code`. Throws an error with the story. */
function run(code: number, depth: number): void {
  const stage = new Stage();
  const digits: number[] = [];
  const story = () => digits.map((d) => STEPS[d]!.join(" ")).join(", ");
  let rest = Math.floor(code / FIRST);
  digits.push(code % FIRST);
  for (let i = 1; i < depth; i++) {
    digits.push(rest % STEPS.length);
    rest = Math.floor(rest / STEPS.length);
  }
  try {
    for (const d of digits) {
      const [what, port] = STEPS[d]!;
      stage.step(what, port);
      check(stage, story);
    }
    stage.settle();
  } catch (error) {
    throw new Error(`after ${story()}`, { cause: error });
  }
  if (stage.unseen[0] !== 0 || stage.unseen[1] !== 0) throw new Error(`work is left: ${story()}`);
}

describe("no wake-up is lost", () => {
  it("property: every order of six steps on two ports", () => {
    const depth = 6;
    for (let code = 0; code < FIRST * STEPS.length ** (depth - 1); code++) run(code, depth);
  });

  it("property: long stories, handlers that end their turn at once and send to themselves", () => {
    holds(
      fc.property(
        fc.array(fc.constantFrom(...STEPS), { maxLength: 300 }),
        fc.tuple(fc.nat(3), fc.nat(3)),
        (steps, within) => {
          const stage = new Stage(within);
          steps.forEach(([what, port], i) => {
            stage.step(what, port);
            check(stage, () => `step ${i}`);
          });
          stage.settle();
          expect(stage.unseen).toEqual([0, 0]);
          // Two turns come from binding; there is no other turn without an event.
          expect(stage.turns).toBeLessThanOrEqual(stage.sends + 2);
        },
      ),
      { numRuns: cases(20_000) },
    );
  });

  it("property: a guest is told of every event that it did not mask, and once of those it did", () => {
    holds(
      fc.property(
        fc.array(fc.constantFrom("send", "mask", "unmask", "poll"), { maxLength: 60 }),
        (steps) => {
          let told = 0;
          const events = new EventChannels({ now: () => 0 });
          events.attach(1, () => told++);
          const backend = events.allocUnbound(0, SELF, 1);
          const guest = events.bindInterdomain(1, 0, backend);
          let masked = false;
          let behind = false;
          let expected = 1;
          for (const what of steps) {
            if (what === "send") {
              events.send(0, backend);
              if (masked) behind = true;
              else expected++;
            } else if (what === "poll") {
              expect(events.pollPending(1, guest)).toBe(behind ? 1 : 0);
              behind = false;
            } else if (what === "mask") {
              events.mask(1, guest);
              masked = true;
            } else {
              events.unmask(1, guest);
              if (behind) expected++;
              masked = behind = false;
            }
            expect(told).toBe(expected);
          }
        },
      ),
      { numRuns: cases(20_000) },
    );
  });
});
