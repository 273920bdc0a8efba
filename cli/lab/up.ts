/** `ringwire lab up`: starts what the file says and does not run, and ends what it does not say. */
import { Failure } from "../common/failure.ts";
import type { Output } from "../common/output.ts";
import type { Stop } from "../common/signals.ts";
import type { Lab } from "./model.ts";
import {
  configure,
  makeNamespaces,
  namespaceExists,
  namespacesOf,
  removeNamespaces,
} from "./network.ts";
import { lookAround, type Sight, sightsOf } from "./peers.ts";
import { type LabPart, type LabPlan, partsOf, planOf } from "./plan.ts";
import {
  endProcesses,
  type LabProcess,
  labProcesses,
  runs,
  type Started,
  startPart,
} from "./processes.ts";
import type { LabState } from "./state.ts";
import { inTurns } from "./turns.ts";

/** Time (ms) between two looks at the events of a part. */
const LOOK_MS = 20;
/** Lines of a part's log in an error. */
const LAST_WORDS = 5;

export interface UpOptions {
  readonly id: string;
  readonly lab: Lab;
  readonly host: string | undefined;
  readonly state: LabState;
  readonly output: Output;
  readonly stop: Stop;
  readonly timeoutMs: number;
  /** True: also wait for peers on other hosts. */
  readonly everywhere: boolean;
}

/** Takes a lab up. The caller holds its lock. Rejects with Failure. */
export async function takeUp(options: UpOptions): Promise<void> {
  const up = new Up(options);
  try {
    await up.run();
  } finally {
    up.release();
  }
}

class Up {
  readonly #options: UpOptions;
  readonly #plan: LabPlan;
  readonly #began = performance.now();
  readonly #started: Started[] = [];
  #signal: NodeJS.Signals | undefined;
  #counts = { started: 0, ended: 0, kept: 0 };

  constructor(options: UpOptions) {
    this.#options = options;
    this.#plan = planOf(options.lab, options.host);
    void options.stop.asked.then((signal) => {
      this.#signal = signal;
    });
  }

  release(): void {
    for (const started of this.#started) started.release();
  }

  async run(): Promise<void> {
    const { id, lab, host, output } = this.#options;
    const { device, early, nics, late } = this.#plan;
    const kept = await this.#endOthers();
    await this.#settleNamespaces();
    if (device !== undefined) await this.#bringUp(device, kept);
    await inTurns(early, (part) => this.#bringUp(part, kept));
    await inTurns(nics, async (part) => {
      await this.#bringUp(part, kept);
      await configure(part.nic);
    });
    await inTurns(late, (part) => this.#bringUp(part, kept));
    const sights = await this.#look();
    const peers = sights.reduce((sum, { peers }) => sum + peers.length, 0);
    const seconds = Math.round((performance.now() - this.#began) / 100) / 10;
    const { started, ended } = this.#counts;
    const had = `${started} started, ${this.#counts.kept} ran already`;
    output.event(
      `lab ${id} is up after ${seconds} s: ${partsOf(this.#plan).length} parts (${had}), ${peers} pairs of peers see each other`,
      {
        ...{ event: "up", lab: lab.name, host, parts: partsOf(this.#plan).length },
        ...{ started, ended, kept: this.#counts.kept, pairs: peers, seconds },
      },
    );
  }

  /** Ends processes that the file does not say, or not in this way. Returns the others by part. */
  async #endOthers(): Promise<Map<string, LabProcess>> {
    const { id, lab, output } = this.#options;
    const running = labProcesses(id);
    const other = running.find(({ file }) => file !== lab.file);
    if (other !== undefined) {
      throw new Failure(
        `a lab ${id} is up from another file, ${other.file}: take it down first, or give one of them another name (name = "...")`,
      );
    }
    const wanted = new Map(partsOf(this.#plan).map((part) => [part.id, part]));
    const kept = new Map<string, LabProcess>();
    const ending: LabProcess[] = [];
    for (const one of running) {
      const part = wanted.get(one.part);
      if (part !== undefined && part.key === one.key && !kept.has(one.part)) {
        kept.set(one.part, one);
        continue;
      }
      ending.push(one);
      const reason = part === undefined ? "not in the file" : "changed in the file";
      const { part: name, pid } = one;
      output.event(`ended     ${name} (${reason})`, { event: "ended", part: name, pid, reason });
    }
    this.#counts.ended = ending.length;
    await endProcesses(ending);
    return kept;
  }

  async #settleNamespaces(): Promise<void> {
    const { id, state } = this.#options;
    const { namespaces } = this.#plan;
    const before = state.namespaces;
    if (namespaces.length === 0 && before.length === 0) return;
    const own = await namespacesOf(id, before);
    const foreign = namespaces.find((name) => !own.includes(name) && namespaceExists(name));
    if (foreign !== undefined) {
      throw new Failure(
        `there is a network namespace ${foreign}, and it is not of this lab: choose another name, or remove it with "ip netns del ${foreign}"`,
      );
    }
    // Written first: a kill in between leaves a namespace that nobody else could account for.
    state.namespaces = [...new Set([...own, ...namespaces])];
    await removeNamespaces(own.filter((name) => !namespaces.includes(name)));
    // The loopback interface of those that are there may be down, or without the alias.
    await makeNamespaces(id, namespaces);
    state.namespaces = namespaces;
  }

  /** Starts a part unless it runs, and waits until it is up. */
  async #bringUp(part: LabPart, kept: ReadonlyMap<string, LabProcess>): Promise<void> {
    const { id, lab, state, output } = this.#options;
    let ended: Promise<string> | undefined;
    const running = kept.get(part.id);
    if (running === undefined) {
      this.#check(part);
      const started = startPart(id, lab.file, part, state);
      this.#started.push(started);
      ended = started.ended;
      this.#counts.started++;
      const { pid } = started;
      output.event(`started   ${part.id} (process ${pid})`, {
        event: "started",
        part: part.id,
        pid,
      });
    } else {
      this.#counts.kept++;
    }
    let gone: string | undefined;
    void ended?.then((reason) => {
      gone = reason;
    });
    while (!isUp(part, state)) {
      if (gone !== undefined || (running !== undefined && !runs(running))) {
        throw this.#failure(part, gone ?? "has just ended");
      }
      this.#check(part);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Throws when the command was stopped, or the time is over. */
  #check(part?: LabPart): void {
    const { timeoutMs, lab } = this.#options;
    if (this.#signal !== undefined) {
      throw new Failure(
        `stopped by ${this.#signal}: what has started stays, until ringwire lab down ${lab.file}`,
      );
    }
    if (part !== undefined && this.#isLate()) {
      throw this.#failure(part, `is not up after ${timeoutMs / 1000} s`);
    }
  }

  #isLate(): boolean {
    return performance.now() - this.#began > this.#options.timeoutMs;
  }

  #failure(part: LabPart, what: string): Failure {
    const { state } = this.#options;
    const words = state.lastWords(part.id, LAST_WORDS).map((line) => `\n  ${line}`);
    return new Failure(`${part.id} ${what}; its log is ${state.log(part.id)}${words.join("")}`);
  }

  /** Waits until the NICs see their peers. */
  async #look(): Promise<Sight[]> {
    const { lab, host, everywhere, output, timeoutMs } = this.#options;
    const own = this.#plan.nics.map(({ nic }) => nic);
    const here = sightsOf(lab, own, own);
    const others = lab.nics.filter((nic) => nic.host !== host);
    const there = others.length === 0 ? [] : sightsOf(lab, own, others);
    const awaited = everywhere ? [...here, ...there] : here;
    await lookAround(awaited, () => this.#isLate() || this.#signal !== undefined, true);
    this.#check();
    const blind = awaited.find(({ missing }) => missing.length > 0);
    if (blind !== undefined) {
      const names = blind.missing.map(({ name }) => name).join(", ");
      throw new Failure(
        `nic ${blind.nic.name} does not see ${names} after ${timeoutMs / 1000} s; ringwire lab status says what is up`,
      );
    }
    if (!everywhere) {
      await lookAround(there, () => true, true);
      const missing = new Set(there.flatMap(({ missing: peers }) => peers.map(({ name }) => name)));
      if (missing.size > 0) {
        output.text(`NICs of other hosts that do not answer yet: ${[...missing].join(", ")}`);
      }
    }
    return awaited;
  }
}

/** True when the events of a part end in a state in which it works. */
export function isUp(part: LabPart, state: LabState): boolean {
  const events = state.eventsOf(part.id).map(({ event }) => event);
  const last = events.findLast((event) => [part.ready, "link-lost", "link-back"].includes(event));
  return last !== undefined && last !== "link-lost";
}
