/** Defects of other xenstore daemons, by the advisory that reported them. */
import { describe, expect, it } from "vitest";
import { CONFLICT_WORK, DEBT_MAX, PAID_PER_MS } from "../../device/xen/xenstore/index.ts";
import { addGuest, machineOf, type StoreGuest } from "../support/store-guest.ts";

/** Conflicts in a row after which the domain that caused them has to wait, and the wait (ms). */
const CONFLICTS = DEBT_MAX / CONFLICT_WORK + 1;
const WAIT_MS = CONFLICT_WORK / PAID_PER_MS;
const SHARED = "/local/domain/1/shared";

/** Guest 1 has a node that guests 2 and 3 may write. */
function three() {
  const machine = machineOf(3);
  const [victim, rival, second] = machine.guests as [StoreGuest, StoreGuest, StoreGuest];
  victim.write("shared", "0");
  victim.setPerms("shared", ["n1", "b2", "b3"]);
  const use = () => machine.store.snapshot();
  return { ...machine, victim, rival, second, use };
}

/** One attempt of the victim, with another guest's write in the middle. */
function attempt(victim: StoreGuest, meanwhile: () => void): string {
  const tx = victim.start();
  victim.read("shared", tx);
  victim.write("mine", "1", tx);
  meanwhile();
  return victim.end(tx);
}

describe("XSA-115", () => {
  it("XSA-115 events are withheld from who may not read the node, in every way a node changes", () => {
    const { victim, rival } = three();
    rival.watch("/", "all");
    rival.watch("/local/domain/1/secret", "one");
    rival.heard();
    victim.write("secret/key", "1");
    victim.setPerms("secret/key", ["n1", "w2"]);
    victim.mkdir("secret/dir");
    victim.rm("secret/key");
    const tx = victim.start();
    victim.write("secret/other", "1", tx);
    victim.end(tx);
    victim.rm("secret");
    expect(rival.heard()).toEqual([]);
    victim.write("shared", "2");
    expect(rival.heard()).toEqual(["/local/domain/1/shared all"]);
  });

  it("XSA-115 a guest that is released discloses nothing to those who could not read it", () => {
    const { store, victim, rival } = three();
    victim.write("secret/key", "1");
    for (const path of ["", "/secret", "/secret/key", "/shared"]) {
      rival.watch(`/local/domain/1${path}`, "t");
    }
    rival.heard();
    store.release(1);
    expect(rival.heard()).toEqual([`${SHARED} t`]);
  });
});

describe("XSA-115 and transactions", () => {
  it("XSA-115 a transaction learns nothing of the nodes that its domain may not see", () => {
    const { victim, rival } = three();
    victim.write("secret/key", "1");
    const tx = rival.start();
    const key = "/local/domain/1/secret/key";
    for (const ask of [rival.read, rival.directory, rival.getPerms, rival.rm, rival.mkdir]) {
      expect(ask(key, tx)).toBe("EACCES");
      expect(ask(`${key}/none`, tx)).toBe("EACCES");
    }
    expect(rival.write(key, "2", tx)).toBe("EACCES");
    expect(rival.setPerms(key, ["n2"], tx)).toBe("EACCES");
    rival.write("mine", "1", tx);
    victim.write("secret/key", "2");
    victim.rm("secret");
    expect(rival.end(tx)).toBe("OK\0");
  });
});

describe("XSA-206", () => {
  it("XSA-206 a rival that writes all the time delays a transaction by so many tries, no more", () => {
    const { victim, rival } = three();
    const outcomes: string[] = [];
    for (let tries = 0; tries <= CONFLICTS; tries++) {
      outcomes.push(attempt(victim, () => rival.write(SHARED, `${tries}`)));
    }
    expect(outcomes).toEqual([...Array(CONFLICTS).fill("EAGAIN"), "OK\0"]);
  });

  it("XSA-206 the rival's writes wait until it has paid and are then done, in order", () => {
    const { clock, victim, rival } = three();
    for (let i = 0; i < CONFLICTS; i++) attempt(victim, () => rival.write(SHARED, "x"));
    const answers: string[] = [];
    attempt(victim, () => {
      answers.push(rival.read(SHARED), rival.write(SHARED, "y"), rival.read(SHARED));
    });
    expect(answers).toEqual(["held", "held", "held"]);
    clock.now = WAIT_MS;
    rival.heard();
    expect(rival.takeReply()).toBe("y");
    expect(rival.write(SHARED, "z")).toBe("OK\0");
  });

  it("XSA-206 nobody but the rival waits, and not for long", () => {
    const { store, clock, victim, rival, second } = three();
    for (let i = 0; i < CONFLICTS; i++) attempt(victim, () => rival.write(SHARED, "x"));
    expect(second.write("mine", "1")).toBe("OK\0");
    expect(rival.write("mine", "1")).toBe("held");
    expect(store.nextTick).toBe(WAIT_MS);
    clock.now = WAIT_MS - 1;
    store.flushWatches();
    expect(rival.takeReply()).toBe("held");
    clock.now = WAIT_MS;
    store.flushWatches();
    expect(rival.takeReply()).toBe("OK\0");
  });

  it("XSA-206 rivals that relieve each other cost so many tries each", () => {
    const { victim, rival, second } = three();
    let tries = 0;
    const interfere = () => {
      if (rival.write(SHARED, `${tries}`) === "held") second.write(SHARED, `${tries}`);
    };
    while (attempt(victim, interfere) === "EAGAIN") {
      expect(++tries).toBeLessThanOrEqual(2 * CONFLICTS);
    }
    expect(tries).toBe(2 * CONFLICTS);
  });

  it("XSA-206 many transactions that fail by one change are one conflict: a guest can't stop another", () => {
    const { victim, rival } = three();
    for (let changes = 1; changes < CONFLICTS; changes++) {
      const all = Array.from({ length: 10 }, () => victim.start());
      for (const tx of all) victim.read("shared", tx);
      expect(rival.write(SHARED, `${changes}`)).toBe("OK\0");
      for (const tx of all) expect(victim.end(tx)).toBe("EAGAIN");
      expect(rival.write("mine", "1")).toBe("OK\0");
    }
    expect(attempt(victim, () => rival.write(SHARED, "x"))).toBe("EAGAIN");
    expect(rival.write("mine", "1")).toBe("held");
  });

  it("XSA-206 of two that fail by each other both go on when they have paid", () => {
    const { clock, victim, rival } = three();
    const racing = (guest: StoreGuest, path: string, disturb: () => void): string => {
      const tx = guest.start();
      guest.read(path, tx);
      disturb();
      return guest.end(tx);
    };
    for (let i = 0; i < CONFLICTS - 1; i++) {
      racing(victim, "shared", () => rival.write(SHARED, "a"));
      racing(rival, SHARED, () => victim.write("shared", "b"));
    }
    const [first, later] = [victim.start(), rival.start()];
    victim.read("shared", first);
    rival.read(SHARED, later);
    victim.write("shared", "mine", first);
    rival.write(SHARED, "theirs", later);
    expect(victim.end(first)).toBe("OK\0");
    expect(rival.end(later)).toBe("EAGAIN");
    expect(victim.read("shared")).toBe("held");
    clock.now = WAIT_MS;
    victim.heard();
    expect(victim.takeReply()).toBe("mine");
    expect(racing(rival, SHARED, () => {})).toBe("OK\0");
  });

  it("XSA-206 what a transaction keeps alive is not a way to end another's for ever", () => {
    const { victim, rival } = three();
    const churn = () => {
      for (let i = 0; i < 2300; i++) {
        if (rival.write("churn", "x".repeat(2000)) === "held") return;
      }
    };
    let tries = 0;
    while (attempt(victim, churn) === "EAGAIN") {
      expect(++tries).toBeLessThanOrEqual(CONFLICTS);
    }
    expect(tries).toBe(CONFLICTS);
  });
});

describe("XSA-322", () => {
  it("XSA-322 the next owner of a domain id inherits no permission and no node", () => {
    const { store, victim, rival } = three();
    victim.mkdir("dir");
    victim.setPerms("dir", ["n1", "b2"]);
    rival.write("/local/domain/1/dir/theirs/deep", "1");
    const tx = victim.start();
    victim.mkdir("fresh/node", tx);
    victim.setPerms("fresh/node", ["n1", "r2"], tx);
    store.release(2);
    expect(victim.end(tx)).toBe("EAGAIN");
    expect(victim.read("fresh")).toBe("ENOENT");
    expect(victim.getPerms("shared")).toBe("n1\0b3\0");
    expect(victim.directory("dir")).toBe("");
    const next = addGuest(store, 2);
    expect(next.read(SHARED)).toBe("EACCES");
    expect(next.write("/local/domain/1/dir/x", "1")).toBe("EACCES");
    expect(next.directory("/local/domain/2")).toBe("");
  });

  it("XSA-322 a transaction that changed a node of a domain that has gone is lost, ended or not", () => {
    const { store, guests } = machineOf(2);
    const [one, two] = [guests[0]!, guests[1]!];
    expect(two.setPerms("/local/domain/2", ["n2", "w1"])).toBe("OK\0");
    const tx = one.start();
    expect(one.write("/local/domain/2", "mine", tx)).toBe("OK\0");
    store.release(2);
    expect(store.snapshot()).toMatchObject([{ domid: 1, transactions: 0 }]);
    addGuest(store, 2);
    expect(one.end(tx, "T")).toBe("EAGAIN");
    expect(store.local(0).read("/local/domain/2")).toBe("");
  });
});

describe("XSA-325 and conflicts", () => {
  it("XSA-325 the next owner of a domain id inherits no debt", () => {
    const { store, victim, rival } = three();
    for (let i = 0; i < CONFLICTS; i++) attempt(victim, () => rival.write(SHARED, "x"));
    expect(rival.write("mine", "1")).toBe("held");
    store.release(2);
    const next = addGuest(store, 2);
    expect(next.write("mine", "1")).toBe("OK\0");
    expect(store.nextTick).toBe(Infinity);
  });
});

describe("XSA-325", () => {
  const stages: [string, (guest: StoreGuest) => void][] = [
    ["with open transactions", (g) => void g.write("t", "1", g.start())],
    [
      "with watches and events that wait",
      (g) => {
        g.watch("a", "t");
        g.write("a", "1");
      },
    ],
    [
      "with requests that wait",
      (g) => {
        g.room = false;
        g.write("a", "1");
        g.write("b", "1");
      },
    ],
    [
      "after a message that was none",
      (g) => {
        g.write("a", "1");
        expect(() => g.store.request(g.domid, new Uint8Array(3))).toThrow("xenstore: ");
      },
    ],
    ["with nodes in another's directory", (g) => void g.write(SHARED, "2")],
    [
      "after it was cut",
      (g) => {
        for (let i = 0; i < 100; i++) g.watch(SHARED, `${i}`);
        g.heard();
        g.room = false;
        const owner = g.store.local(0);
        for (let i = 0; i < 20; i++) owner.write(`${SHARED}/${i}`, "1");
        owner.rm(SHARED);
      },
    ],
  ];
  it.each(stages)("XSA-325 nothing is left of a guest that goes %s", (_name, act) => {
    const { store, local, rival, use } = three();
    act(rival);
    store.release(2);
    store.flushWatches();
    expect(use().map(({ domid }) => domid)).toEqual([1, 3]);
    expect(store.nextTick).toBe(Infinity);
    expect([...local.directory("/local/domain").children.names()]).toEqual(["1", "3"]);
    // The id is free, and the next guest with it begins with empty accounts.
    addGuest(store, 2);
    expect(use().at(-1)).toEqual(machineOf(2).store.snapshot()[1]);
  });
});

describe("XSA-326", () => {
  it("XSA-326 whatever a guest does, its memory stays under the hard quota", () => {
    const hard = 200_000;
    const { guests, store } = machineOf(2, { memorySoftBytes: hard / 2, memoryHardBytes: hard });
    const guest = guests[0]!;
    const most = () => store.snapshot()[0]!.memoryBytes;
    const big = "x".repeat(1900);
    const refusals = new Set<string>();
    const all: (() => string)[] = [];
    for (let i = 0; i < 200; i++) {
      all.push(() => guest.write(`n${i % 150}/m`, big));
      all.push(() => guest.watch(`w${i}`, big));
    }
    const open = Array.from({ length: 10 }, () => guest.start());
    for (const tx of open) {
      for (let i = 0; i < 40; i++) all.push(() => guest.write(`t${tx}/${i}`, big, tx));
      for (let i = 0; i < 40; i++) all.push(() => guest.read(`r${tx}/${i}`, tx));
    }
    for (const request of all) {
      refusals.add(request());
      expect(most()).toBeLessThanOrEqual(hard);
    }
    expect(refusals).toContain("ENOMEM");
    expect(guests[1]!.write("a", "1")).toBe("OK\0");
  });

  it("XSA-326 requests that wait are few, and writing one node in a transaction for ever is one node", () => {
    const { store, guests } = machineOf(1);
    const guest = guests[0]!;
    const tx = guest.start();
    guest.write("a", "x".repeat(1000), tx);
    const { memoryBytes } = store.snapshot()[0]!;
    for (let i = 0; i < 5000; i++) guest.write("a", "x".repeat(1000), tx);
    expect(store.snapshot()[0]!.memoryBytes).toBe(memoryBytes);
    expect(guest.end(tx)).toBe("OK\0");
  });
});

describe("XSA-349", () => {
  it("XSA-349 a watcher that does not read is cut at 1000 events, and its neighbours hear on", () => {
    const { store, victim, rival, second } = three();
    victim.mkdir("list");
    victim.setPerms("list", ["r1"]);
    for (const guest of [rival, second]) {
      guest.watch("/local/domain/1/list", "t");
      guest.heard();
    }
    rival.room = false;
    for (let i = 0; i < 1000; i++) {
      victim.write(`list/n${i}`, "1");
      victim.rm(`list/n${i}`);
    }
    store.flushWatches();
    expect(rival.cutBy).toBeUndefined();
    expect(store.snapshot()[1]).toMatchObject({ pending: 1000 });
    second.heard();

    victim.write("list/last", "1");
    store.flushWatches();
    expect(rival.cutBy).toBe("XENSTORE_WATCHER_STUCK");
    expect(store.snapshot()[1]).toMatchObject({ pending: 0, watches: 0 });
    expect(() => rival.read("a")).toThrow(
      expect.objectContaining({ code: "XENSTORE_WATCHER_STUCK" }),
    );
    expect(second.heard()).toEqual(["/local/domain/1/list/last t"]);
    expect(rival.events).toEqual([]);
    store.release(2);
    expect(addGuest(store, 2).read("/local/domain/2")).toBe("");
  });

  it("XSA-349 a watcher that does read is never cut, however much happens in one batch", () => {
    const { victim, rival } = three();
    victim.mkdir("list");
    victim.setPerms("list", ["r1"]);
    rival.watch("/local/domain/1/list", "t");
    rival.heard();
    for (let i = 0; i < 2500; i++) {
      victim.write(`list/n${i}`, "1");
      victim.rm(`list/n${i}`);
    }
    expect(rival.heard()).toHaveLength(2500);
    expect(rival.cutBy).toBeUndefined();
  });

  it("XSA-349 what is told a watcher that does not read is coalesced first", () => {
    const { store, victim, rival } = three();
    rival.watch(SHARED, "t");
    rival.heard();
    rival.room = false;
    for (let i = 0; i < 5000; i++) victim.write("shared", `${i}`);
    store.flushWatches();
    expect(store.snapshot()[1]).toMatchObject({ pending: 1 });
    rival.room = true;
    expect(rival.heard()).toEqual([`${SHARED} t`]);
    expect(rival.read(SHARED)).toBe("4999");
  });
});

describe("XSA-414/415/419, CVE-2022-42326", () => {
  it("XSA-414 a reply or a name as long as can be is answered, never more", () => {
    const { guests, local } = machineOf(1);
    const guest = guests[0]!;
    const longest = `/local/domain/1/${"a".repeat(2000)}`;
    local.write(longest, "v".repeat(4096));
    expect(guest.read(longest)).toHaveLength(4096);
    expect(guest.watch(longest, "t".repeat(4096 - longest.length - 2))).toBe("OK\0");
    expect(guest.heard()).toHaveLength(1);
  });

  it("XSA-415 an aborted or failed transaction leaves no trace in any account", () => {
    const { store, guests } = machineOf(1, { nodes: 5 });
    const guest = guests[0]!;
    const before = store.snapshot();
    for (let i = 0; i < 50; i++) {
      const aborted = guest.start();
      guest.write("a/b", "1", aborted);
      guest.rm("a", aborted);
      guest.write("c", "1", aborted);
      expect(guest.end(aborted, "F")).toBe("OK\0");

      const tooMany = guest.start();
      for (let n = 0; n < 5; n++) expect(guest.mkdir(`n${n}`, tooMany)).toBe("OK\0");
      expect(guest.end(tooMany)).toBe("ENOSPC");

      const lost = guest.start();
      guest.directory("/local/domain/1", lost);
      guest.mkdir("x", lost);
      guest.mkdir("y");
      guest.rm("y");
      expect(guest.end(lost)).toBe("EAGAIN");
    }
    expect(store.snapshot()).toEqual(before);
    expect(guest.directory("/local/domain/1")).toBe("");
  });

  it("XSA-419 CVE-2022-42326 creating and deleting in one transaction is no way round the quota", () => {
    const { store, guests } = machineOf(1, { nodes: 4 });
    const guest = guests[0]!;
    for (let i = 0; i < 20; i++) {
      const tx = guest.start();
      expect(guest.mkdir(`t${i}`, tx)).toBe("OK\0");
      expect(guest.rm(`t${i}`, tx)).toBe("OK\0");
      expect(guest.end(tx)).toBe("OK\0");
    }
    expect(store.snapshot()[0]!.nodes).toBe(1);
    for (const name of ["a", "b", "c"]) expect(guest.mkdir(name)).toBe("OK\0");
    expect(guest.mkdir("d")).toBe("ENOSPC");

    const moved = guest.start();
    guest.rm("a", moved);
    guest.mkdir("d", moved);
    expect(guest.end(moved)).toBe("OK\0");
    expect(guest.directory("/local/domain/1")).toBe("b\0c\0d\0");
    expect(guest.mkdir("e")).toBe("ENOSPC");
    expect(store.snapshot()[0]!.nodes).toBe(4);
  });

  it("XSA-419 a transaction is committed whole or not at all", () => {
    const { guests } = machineOf(1, { nodes: 4 });
    const guest = guests[0]!;
    guest.write("a", "old");
    guest.watch("a", "t");
    guest.heard();
    const tx = guest.start();
    guest.write("a", "new", tx);
    guest.mkdir("b/c/d", tx);
    expect(guest.end(tx)).toBe("ENOSPC");
    expect([guest.read("a"), guest.read("b")]).toEqual(["old", "ENOENT"]);
    expect(guest.heard()).toEqual([]);
  });
});
