/**
 * Random requests of three guests, with transactions, against a simple model: a flat map from path
 * to node, a whole copy of it for each transaction, and a commit that compares the versions seen
 * with the present ones. After every step the accounts must match the tree, counted again.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { TRANSACTION_MS } from "../../device/xen/xenstore/index.ts";
import { cases, holds } from "../support/counts.ts";
import { same } from "../support/same.ts";
import { addGuest, machineOf, type StoreGuest } from "../support/store-guest.ts";

const GUESTS = [1, 2, 3];
const NODES = 5;
const TRANSACTIONS = 3;
const NAMES = ["a", "b", "a/c", "a/c/d", "b/e", "b/e/f"];

/**
 * The model's node: no tree, no sharing. `version` changes with the node or its list of children.
 */
interface ModelNode {
  value: string;
  perms: string[];
  version: number;
}
type Model = Map<string, ModelNode>;

interface ModelTransaction {
  copy: Model;
  /** Versions of the nodes seen, by path; -1 for a node that did not exist. */
  seen: Map<string, number>;
  wrote: Set<string>;
  startedAt: number;
}

class ModelError extends Error {}

class ModelStore {
  now: Model = new Map();
  versions = 0;
  readonly open = new Map<number, Map<number, ModelTransaction>>();
  /** "domid tx" of transactions that the store ended. */
  readonly lost = new Set<string>();

  /** One request of a guest. Returns the answer as the guest gets it. */
  act(domid: number, tx: number, work: (view: View) => string): string {
    const open = this.open.get(domid)?.get(tx);
    if (tx !== 0 && open === undefined) return this.#none(domid, tx);
    // Works on a copy, so that a failed request changes nothing.
    const before = open?.copy ?? this.now;
    const view = new View(this, domid, copyOf(before));
    let answer: string;
    try {
      answer = work(view);
      if (open === undefined && !this.#fits(domid, view.nodes)) return "ENOSPC";
      if (open === undefined) this.now = view.nodes;
      else open.copy = view.nodes;
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      answer = error.message;
      view.wrote.clear();
    }
    if (open !== undefined) {
      // A node that the transaction made itself was not seen in the store.
      for (const [path, version] of view.seen) {
        if (!open.wrote.has(path) && !open.seen.has(path)) open.seen.set(path, version);
      }
      for (const path of view.wrote) open.wrote.add(path);
    }
    return answer;
  }

  end(domid: number, tx: number, commit: boolean): string {
    const open = this.open.get(domid)?.get(tx);
    if (open === undefined) return this.#none(domid, tx);
    this.open.get(domid)!.delete(tx);
    if (!commit) return "OK\0";
    for (const [path, version] of open.seen) {
      if ((this.now.get(path)?.version ?? -1) !== version) return "EAGAIN";
    }
    const merged = copyOf(this.now);
    for (const path of open.wrote) {
      const node = open.copy.get(path);
      if (node === undefined) merged.delete(path);
      else merged.set(path, node);
    }
    if (!this.#fits(domid, merged)) return "ENOSPC";
    this.now = merged;
    return "OK\0";
  }

  lose(domid: number, tx: number): void {
    this.open.get(domid)!.delete(tx);
    this.lost.add(`${domid} ${tx}`);
  }

  #none(domid: number, tx: number): string {
    return this.lost.has(`${domid} ${tx}`) ? "EAGAIN" : "ENOENT";
  }

  owned(domid: number, nodes: Model): number {
    let count = 0;
    for (const { perms } of nodes.values()) if (perms[0]!.slice(1) === `${domid}`) count++;
    return count;
  }

  #fits(domid: number, nodes: Model): boolean {
    const count = this.owned(domid, nodes);
    return count <= NODES || count <= this.owned(domid, this.now);
  }
}

/** Nodes that one request sees and changes. */
class View {
  readonly seen = new Map<string, number>();
  readonly wrote = new Set<string>();
  readonly #store: ModelStore;
  readonly #domid: number;
  readonly nodes: Model;

  constructor(store: ModelStore, domid: number, nodes: Model) {
    this.#store = store;
    this.#domid = domid;
    this.nodes = nodes;
  }

  read(path: string): string {
    return this.#existing(path, "rb").value;
  }

  getPerms(path: string): string {
    return this.#existing(path, "rb")
      .perms.map((p) => `${p}\0`)
      .join("");
  }

  directory(path: string): string {
    this.#existing(path, "rb");
    const names = [...this.nodes.keys()].filter((p) => parent(p) === path);
    return names
      .map((p) => p.slice(path.length + 1))
      .sort()
      .join();
  }

  write(path: string, value: string | undefined): string {
    if (this.#may(path, "wb") === "node") {
      if (value !== undefined) this.#set(path, { ...this.nodes.get(path)!, value });
      return "OK\0";
    }
    const missing: string[] = [];
    for (let at = path; !this.nodes.has(at); at = parent(at)) missing.unshift(at);
    const above = parent(missing[0]!);
    const [first, ...others] = this.nodes.get(above)!.perms;
    this.#set(above, this.nodes.get(above)!);
    for (const at of missing) {
      const perms = [`${first![0]}${this.#domid}`, ...others];
      this.#set(at, { value: at === path ? (value ?? "") : "", perms, version: 0 });
    }
    return "OK\0";
  }

  rm(path: string): string {
    if (this.#may(path, "wb") !== "node") {
      if (!this.nodes.has(parent(path))) throw new ModelError("ENOENT");
      return "OK\0";
    }
    for (const below of [...this.nodes.keys()]) {
      if (below !== path && !below.startsWith(`${path}/`)) continue;
      this.#see(below);
      this.nodes.delete(below);
      this.wrote.add(below);
    }
    this.#see(parent(path));
    this.#set(parent(path), this.nodes.get(parent(path))!);
    return "OK\0";
  }

  setPerms(path: string, perms: string[]): string {
    const node = this.#existing(path, "wb");
    if (node.perms[0]!.slice(1) !== `${this.#domid}`) throw new ModelError("EACCES");
    if (perms[0]!.slice(1) !== `${this.#domid}`) throw new ModelError("EPERM");
    this.#set(path, { ...node, perms });
    return "OK\0";
  }

  #existing(path: string, letters: string): ModelNode {
    if (this.#may(path, letters) !== "node") throw new ModelError("ENOENT");
    return this.nodes.get(path)!;
  }

  /** Whether the node exists. The nearest existing node above decides who may know that. */
  #may(path: string, letters: string): "node" | "nothing" {
    let at = path;
    while (!this.nodes.has(at)) at = parent(at);
    const perms = this.nodes.get(at)!.perms;
    const own = perms[0]!.slice(1) === `${this.#domid}`;
    const mine = perms.slice(1).find((p) => p.slice(1) === `${this.#domid}`) ?? perms[0]!;
    if (!own && !letters.includes(mine[0]!)) throw new ModelError("EACCES");
    // A refused request has seen nothing, so later changes are no conflict.
    for (let seen = path; seen !== at; seen = parent(seen)) this.#see(seen);
    this.#see(at);
    return at === path ? "node" : "nothing";
  }

  #see(path: string): void {
    if (!this.wrote.has(path)) this.seen.set(path, this.nodes.get(path)?.version ?? -1);
  }

  #set(path: string, node: ModelNode): void {
    this.nodes.set(path, { ...node, version: ++this.#store.versions });
    this.wrote.add(path);
  }
}

const copyOf = (nodes: Model): Model => new Map(nodes);
const parent = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";
const home = (domid: number): string => `/local/domain/${domid}`;

const path = fc.record({ of: fc.constantFrom(...GUESTS), name: fc.constantFrom("", ...NAMES) });
const guest = fc.nat(GUESTS.length - 1);
const slot = fc.constantFrom(-1, -1, 0, 1);
const perms = fc.tuple(
  fc.constantFrom("n", "r", "w", "b"),
  fc.array(fc.tuple(fc.constantFrom("n", "r", "w", "b"), fc.constantFrom(...GUESTS)), {
    maxLength: 2,
  }),
);
const on = <T extends string>(op: T) => fc.record({ op: fc.constant(op), guest, slot, path });
const step = fc.oneof(
  { weight: 5, arbitrary: on("write") },
  { weight: 2, arbitrary: on("mkdir") },
  { weight: 3, arbitrary: on("read") },
  { weight: 2, arbitrary: on("rm") },
  { weight: 1, arbitrary: on("directory") },
  { weight: 1, arbitrary: on("getPerms") },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant("setPerms" as const), guest, slot, path, perms }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("start" as const), guest }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("end" as const),
      guest,
      slot: fc.constantFrom(0, 0, 1),
      commit: fc.constantFrom(true, true, true, false),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("wait" as const), ms: fc.nat(9000) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("replace" as const), guest }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;
type Request = Exclude<Step, { op: "wait" | "replace" | "start" | "end" }>;

interface Both {
  readonly real: () => string;
  readonly model: (view: View) => string;
}

/** Sorts the names of a listing; leaves errors as they are. */
const sorted = (names: string): string =>
  names.includes("\0") ? names.split("\0").slice(0, -1).sort().join() : names;

/** Store and model, and the open transactions of each guest, in the order of their starts. */
class Pair {
  readonly machine = machineOf(GUESTS.length, { nodes: NODES, transactions: TRANSACTIONS });
  readonly guests: StoreGuest[] = this.machine.guests;
  readonly model = new ModelStore();
  readonly txs: number[][] = GUESTS.map(() => []);
  readonly outcomes = new Map<string, number>();

  constructor() {
    for (const at of ["/", "/local", "/local/domain"]) this.#seed(at, "n0");
    for (const domid of GUESTS) {
      this.#seed(home(domid), `n${domid}`);
      this.model.open.set(domid, new Map());
    }
  }

  do(step: Step): void {
    if (step.op === "wait") {
      this.machine.clock.now += step.ms;
      this.#expire();
    } else if (step.op === "replace") {
      this.#replace(GUESTS[step.guest]!);
    } else if (step.op === "start") {
      this.#start(step.guest);
    } else if (step.op === "end") {
      const tx = this.#tx(step.guest, step.slot);
      const { commit, guest } = step;
      const answer = this.#settled(guest, this.guests[guest]!.end(tx, commit ? "T" : "F"));
      this.#same(`end`, answer, this.model.end(GUESTS[guest]!, tx, commit));
      if (answer !== "EAGAIN") this.txs[guest] = this.txs[guest]!.filter((open) => open !== tx);
    } else {
      this.#request(step);
    }
    this.check();
  }

  #request(step: Request): void {
    const domid = GUESTS[step.guest]!;
    const tx = this.#tx(step.guest, step.slot);
    const at = home(step.path.of) + (step.path.name && `/${step.path.name}`);
    const both = this.#both(step, this.guests[step.guest]!, at, tx);
    const real = this.#settled(step.guest, both.real());
    this.#same(`${step.op} ${at}`, real, this.model.act(domid, tx, both.model));
  }

  /** Sends the same request to the store and to the model. */
  #both(step: Request, guest: StoreGuest, at: string, tx: number): Both {
    const value = `v${this.model.versions % 5}`;
    switch (step.op) {
      case "write":
        return { real: () => guest.write(at, value, tx), model: (view) => view.write(at, value) };
      case "mkdir":
        return { real: () => guest.mkdir(at, tx), model: (view) => view.write(at, undefined) };
      case "read":
        return { real: () => guest.read(at, tx), model: (view) => view.read(at) };
      case "rm":
        return { real: () => guest.rm(at, tx), model: (view) => view.rm(at) };
      case "getPerms":
        return { real: () => guest.getPerms(at, tx), model: (view) => view.getPerms(at) };
      case "directory":
        return { real: () => sorted(guest.directory(at, tx)), model: (view) => view.directory(at) };
      case "setPerms": {
        const [own, others] = step.perms;
        const list = [`${own}${guest.domid}`, ...others.map(([l, d]) => `${l}${d}`)];
        return {
          real: () => guest.setPerms(at, list, tx),
          model: (view) => view.setPerms(at, list),
        };
      }
    }
  }

  /** Advances time until a request is answered whose guest made other transactions fail. */
  #settled(index: number, answer: string): string {
    let settled = answer;
    while (settled === "held") {
      this.machine.clock.now += 1000;
      this.#expire();
      settled = this.guests[index]!.takeReply();
    }
    return settled;
  }

  /** Expects that a guest's accounts match the tree, and that the tree is the model's. */
  check(): void {
    const local = this.machine.store.local(0);
    const nodes = new Map<string, string>();
    const owned = new Map(GUESTS.map((domid) => [domid, { nodes: 0, bytes: 0 }]));
    const visit = (at: string): void => {
      const [value, perms] = [local.read(at), local.getPerms(at)];
      const names = [...local.directory(at).children.names()];
      nodes.set(at, `${value} ${perms}`);
      const owner = owned.get(Number(perms[0]!.slice(1)));
      if (owner !== undefined) {
        owner.nodes++;
        owner.bytes += at.length + 16 + 8 * perms.length + value.length;
        for (const name of names) owner.bytes += name.length + 1;
      }
      for (const name of names) visit(`${at === "/" ? "" : at}/${name}`);
    };
    visit("/");
    for (const [at, { value, perms }] of this.model.now) {
      same(nodes.get(at), `${value} ${perms}`, at);
    }
    same(nodes.size, this.model.now.size, "nodes");
    same(this.machine.store.nodes, nodes.size - 1);
    for (const use of this.machine.store.snapshot()) {
      const { nodes: count, bytes } = owned.get(use.domid)!;
      same(use.nodes, count, "nodes of a domain");
      same(use.nodeBytes, bytes, "bytes of a domain");
      same(use.transactions, this.model.open.get(use.domid)!.size);
      same(use.memoryBytes > bytes, use.transactions > 0);
    }
  }

  #same(what: string, real: string, model: string): void {
    same(real, model, what);
    const outcome = /^E[A-Z]+$/.test(real) ? real : "OK";
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }

  #start(index: number): void {
    const open = this.model.open.get(GUESTS[index]!)!;
    const tx = this.guests[index]!.start();
    same(Number.isNaN(tx), open.size >= TRANSACTIONS);
    if (Number.isNaN(tx)) return;
    this.txs[index]!.push(tx);
    const startedAt = this.machine.clock.now;
    open.set(tx, { copy: copyOf(this.model.now), seen: new Map(), wrote: new Set(), startedAt });
  }

  #expire(): void {
    this.machine.store.flushWatches();
    for (const domid of GUESTS) {
      for (const [tx, { startedAt }] of this.model.open.get(domid)!) {
        if (this.machine.clock.now - startedAt >= TRANSACTION_MS) this.model.lose(domid, tx);
      }
    }
  }

  /** A guest leaves, and another gets its number. */
  #replace(domid: number): void {
    const { now, open } = this.model;
    this.machine.store.release(domid);
    for (const [at, { perms }] of [...now]) {
      if (perms[0]!.slice(1) !== `${domid}` && now.has(at)) continue;
      for (const below of [...now.keys()]) {
        if (below === at || below.startsWith(`${at}/`)) now.delete(below);
      }
      // The parent's list of children has changed.
      const above = now.get(parent(at));
      if (above !== undefined) now.set(parent(at), this.#changed(above));
    }
    const names = (perms: readonly string[]): boolean =>
      perms.some((p) => p.slice(1) === `${domid}`);
    for (const [at, node] of [...now]) {
      if (!names(node.perms.slice(1))) continue;
      const perms = node.perms.filter((p, i) => i === 0 || p.slice(1) !== `${domid}`);
      now.set(at, this.#changed({ ...node, perms }));
    }
    for (const [other, txs] of open) {
      for (const [tx, { wrote, copy }] of txs) {
        // Transactions that wrote nodes of this domain end too, because the next domain of this
        // number would own the nodes.
        if ([...wrote].some((at) => names(copy.get(at)?.perms ?? []))) this.model.lose(other, tx);
      }
    }
    open.get(domid)!.clear();
    this.txs[GUESTS.indexOf(domid)] = [];
    for (const key of this.model.lost) if (key.startsWith(`${domid} `)) this.model.lost.delete(key);
    this.guests[GUESTS.indexOf(domid)] = addGuest(this.machine.store, domid);
    this.#seed(home(domid), `n${domid}`);
    now.set("/local/domain", this.#changed(now.get("/local/domain")!));
  }

  #changed(node: ModelNode): ModelNode {
    return { ...node, version: ++this.model.versions };
  }

  #seed(at: string, owner: string): void {
    this.model.now.set(at, { value: "", perms: [owner], version: ++this.model.versions });
  }

  /** 0 for no transaction; an id that was never used for a transaction that is not open. */
  #tx(index: number, slot: number): number {
    return slot < 0 ? 0 : (this.txs[index]![slot] ?? 4_000_000);
  }
}

it("random requests of three guests do what the model does, and the accounts what the tree says", () => {
  const outcomes = new Map<string, number>();
  holds(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
      const pair = new Pair();
      for (const one of steps) pair.do(one);
      for (const [name, n] of pair.outcomes) outcomes.set(name, (outcomes.get(name) ?? 0) + n);
    }),
    { numRuns: cases(2000) },
  );
  // The run must have met each of these answers.
  for (const name of ["OK", "EACCES", "ENOENT", "EAGAIN", "ENOSPC"]) {
    expect(outcomes.get(name) ?? 0, name).toBeGreaterThan(0);
  }
});
