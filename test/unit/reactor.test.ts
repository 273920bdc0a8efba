/** The reactor of the main thread, and the helper thread that waits where there is none. */
import { closeSync, readSync, writeSync } from "node:fs";
import { setImmediate as immediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HelperWaiter } from "../../shared/reactor/helper.ts";
import { dataPathStatus, prepareReactor, reactor, soon } from "../../shared/reactor/index.ts";
import {
  openEpoll,
  Reactor,
  type RunTurn,
  type Waiter,
  type Watch,
} from "../../shared/reactor/reactor.ts";
import * as sys from "../../shared/reactor/sys.ts";
import { NODE, run } from "../support/process.ts";

/** Wait (ms) of a turn that has nothing to do. */
const LONG_MS = 3000;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

const fds: number[] = [];
const watches: Watch[] = [];
afterEach(() => {
  for (const watch of watches.splice(0)) watch.close();
  for (const fd of fds.splice(0)) closeSync(fd);
});

/** A descriptor that is readable after `ring`. */
function bell(): { fd: number; ring: () => void; hush: () => void } {
  const fd = sys.eventfd(0, sys.O_NONBLOCK | sys.O_CLOEXEC);
  fds.push(fd);
  return { fd, ring: () => writeSync(fd, ONE), hush: () => readSync(fd, new Uint8Array(8)) };
}

function helped(): Reactor {
  const epoll = openEpoll();
  return new Reactor(epoll, new HelperWaiter(epoll));
}

describe.each([
  ["in libuv's place", async () => prepareReactor().then(() => reactor()!)],
  ["in a helper thread", async () => helped()],
])("a reactor that waits %s", (_name, make) => {
  it("calls the handler of a descriptor that is ready, and no other", async () => {
    const it = await make();
    const [one, other] = [bell(), bell()];
    const { promise, resolve } = Promise.withResolvers<number>();
    watches.push(
      it.watch(one.fd, sys.EPOLLIN, (events) => {
        one.hush();
        resolve(events);
      }),
    );
    watches.push(
      it.watch(other.fd, sys.EPOLLIN, () => {
        throw new Error("nobody rang");
      }),
    );
    one.ring();
    expect(await promise).toBe(sys.EPOLLIN);
  });

  it("does not call a handler whose watch an earlier handler of the turn has ended", async () => {
    const it = await make();
    const [one, other, last] = [bell(), bell(), bell()];
    const called: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const ended = (own: Watch[], name: string) => () => {
      called.push(name);
      for (const watch of own) watch.close();
      last.ring();
    };
    const both: Watch[] = [];
    both.push(it.watch(one.fd, sys.EPOLLIN, ended(both, "one")));
    both.push(it.watch(other.fd, sys.EPOLLIN, ended(both, "other")));
    watches.push(
      it.watch(last.fd, sys.EPOLLIN, () => {
        last.hush();
        resolve();
      }),
    );
    one.ring();
    other.ring();
    await promise;
    expect(called.length).toBe(1);
  });

  it("runs a handler again in the next turn, after the other descriptors that are ready", async () => {
    const it = await make();
    const [busy, other] = [bell(), bell()];
    const called: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const watch = it.watch(busy.fd, sys.EPOLLIN, (events) => {
      if (events !== 0) busy.hush();
      called.push(`busy ${events}`);
      if (events !== 0) other.ring();
      if (called.length < 4) watch.again();
      else resolve();
    });
    watches.push(watch);
    watches.push(
      it.watch(other.fd, sys.EPOLLIN, () => {
        other.hush();
        called.push("other");
      }),
    );
    busy.ring();
    await promise;
    expect(called).toEqual(["busy 1", "other", "busy 0", "busy 0"]);
  });

  it("lets timers, promises and immediates run beside a descriptor that is always ready", async () => {
    const it = await make();
    const always = bell();
    let turns = 0;
    watches.push(it.watch(always.fd, sys.EPOLLIN, () => void turns++));
    always.ring();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await immediate();
    await Promise.resolve();
    const before = turns;
    while (turns < before + 3) await immediate();
  });
});

/** A waiter whose turns the test runs. */
class ByHand implements Waiter {
  turn: RunTurn = () => false;
  started = 0;
  stopped = 0;
  isDue = false;

  start(turn: RunTurn): void {
    this.turn = turn;
    this.started++;
  }

  turned(isDue: boolean): void {
    this.isDue = isDue;
  }

  stop(): void {
    this.stopped++;
  }
}

describe("a turn", () => {
  function byHand(): { waiter: ByHand; reactor: Reactor } {
    const waiter = new ByHand();
    return { waiter, reactor: new Reactor(openEpoll(), waiter) };
  }

  it("mutant-R1 does not pass an event on to a later watch of the same descriptor", () => {
    const { waiter, reactor } = byHand();
    const bells = [bell(), bell()];
    const all: Watch[] = [];
    let late = 0;
    for (const [i, { fd, ring }] of bells.entries()) {
      all[i] = reactor.watch(fd, sys.EPOLLIN, () => {
        const other = 1 - i;
        bells[other]!.hush();
        all[other]!.close();
        all[other] = reactor.watch(bells[other]!.fd, sys.EPOLLIN, () => void late++);
      });
      ring();
    }
    waiter.turn(0);
    watches.push(...all);
    expect(late).toBe(0);
  });

  it("does not call a handler again whose watch has ended since it asked", () => {
    const { waiter, reactor } = byHand();
    const [one, other] = [bell(), bell()];
    let called = 0;
    const watch = reactor.watch(one.fd, sys.EPOLLIN, () => void called++);
    watches.push(reactor.watch(other.fd, sys.EPOLLIN, () => {}));
    watch.again();
    watch.close();
    waiter.turn(0);
    expect(called).toBe(0);
  });

  it("mutant-R3 calls a handler again once, and does not wait before it", () => {
    const { waiter, reactor } = byHand();
    const { fd } = bell();
    let called = 0;
    const watch = reactor.watch(fd, sys.EPOLLIN, () => {
      called++;
      if (called === 1) watch.again();
    });
    watches.push(watch);
    watch.again();
    watch.again();
    const begun = performance.now();
    waiter.turn(LONG_MS);
    expect([called, waiter.isDue]).toEqual([1, true]);
    waiter.turn(LONG_MS);
    expect(performance.now() - begun).toBeLessThan(LONG_MS);
    expect([called, waiter.isDue]).toEqual([2, false]);
    for (let i = 0; i < 3; i++) waiter.turn(0);
    expect(called).toBe(2);
  });

  it("calls once whoever is to be called soon, behind the handlers, and does not wait before", () => {
    const { waiter, reactor } = byHand();
    const { fd, ring } = bell();
    const called: string[] = [];
    watches.push(reactor.watch(fd, sys.EPOLLIN, () => void called.push("handler")));
    ring();
    reactor.soon(() => {
      called.push("first");
      reactor.soon(() => called.push("next"));
    });
    const begun = performance.now();
    waiter.turn(LONG_MS);
    expect([called.splice(0), waiter.isDue]).toEqual([["handler", "first"], true]);
    waiter.turn(LONG_MS);
    expect(performance.now() - begun).toBeLessThan(LONG_MS);
    expect([called.splice(0), waiter.isDue]).toEqual([["handler", "next"], false]);
    for (let i = 0; i < 3; i++) waiter.turn(0);
    expect(called).toEqual(["handler", "handler", "handler"]);
  });

  describe("of many that have always more to do", () => {
    let clock: number;
    beforeEach(() => {
      clock = 1000;
      vi.spyOn(performance, "now").mockImplementation(() => clock);
    });
    afterEach(() => {
      vi.restoreAllMocks();
    });

    /** Handlers that use `ms` in each turn and ask for the next one. */
    function greedy(reactor: Reactor, called: string[], names: string, ms = 1): void {
      for (const name of names) {
        const watch = reactor.watch(bell().fd, sys.EPOLLIN, () => {
          called.push(name);
          clock += ms;
          watch.again();
        });
        watches.push(watch);
        watch.again();
      }
    }

    it("mutant-R10 runs one, and others while it has time, in order", () => {
      const { waiter, reactor } = byHand();
      const called: string[] = [];
      greedy(reactor, called, "abcd");
      for (const name of "abcdabcd") {
        waiter.turn(LONG_MS);
        expect([called.splice(0), waiter.isDue]).toEqual([[name], true]);
      }
    });

    it("runs as many as it has time for, and none twice", () => {
      const { waiter, reactor } = byHand();
      const called: string[] = [];
      greedy(reactor, called, "abcd", 0.4);
      for (const names of ["abc", "dab", "cda"]) {
        waiter.turn(LONG_MS);
        expect(called.splice(0).join("")).toBe(names);
      }
      clock += 1000;
      const few: string[] = [];
      const { waiter: other, reactor: idle } = byHand();
      greedy(idle, few, "ab", 0.1);
      other.turn(0);
      expect(few.join("")).toBe("ab");
    });

    it("mutant-R9 runs those that are ready before, and they send before", () => {
      const { waiter, reactor } = byHand();
      const called: string[] = [];
      greedy(reactor, called, "abcd");
      const light = ["x", "y"].map((name) => {
        const { fd, ring, hush } = bell();
        const watch = reactor.watch(fd, sys.EPOLLIN, () => {
          hush();
          called.push(name);
          clock += 5;
          reactor.soon(() => void called.push("sent"));
        });
        watches.push(watch);
        return ring;
      });
      for (const name of "abcdab") {
        for (const ring of light) ring();
        waiter.turn(0);
        expect(called.splice(0)).toEqual(["x", "y", "sent", "sent", name]);
      }
    });

    it("counts the time of those that are ready, too", () => {
      const { waiter, reactor } = byHand();
      const called: string[] = [];
      greedy(reactor, called, "abcd", 0.1);
      const { fd, ring, hush } = bell();
      watches.push(
        reactor.watch(fd, sys.EPOLLIN, () => {
          hush();
          clock += 5;
        }),
      );
      for (const name of "abc") {
        ring();
        waiter.turn(0);
        expect(called.splice(0)).toEqual([name]);
      }
    });

    it("mutant-R11 passes over those that have ended", () => {
      const { waiter, reactor } = byHand();
      const called: string[] = [];
      greedy(reactor, called, "abc", 0.4);
      watches.at(-2)!.close();
      waiter.turn(0);
      expect(called.join("")).toBe("ac");
    });

    it("calls a handler for its events and for the rest of its work", () => {
      const { waiter, reactor } = byHand();
      const [one, other] = [bell(), bell()];
      const called: number[] = [];
      const watch = reactor.watch(one.fd, sys.EPOLLIN, (events) => void called.push(events));
      watches.push(
        watch,
        reactor.watch(other.fd, sys.EPOLLIN, () => {}),
      );
      one.ring();
      watch.again();
      waiter.turn(0);
      expect(called).toEqual([sys.EPOLLIN, 0]);
    });
  });

  it("is the last when the last watch has ended", () => {
    const { waiter, reactor } = byHand();
    const all = [bell(), bell()].map(({ fd }) => reactor.watch(fd, sys.EPOLLIN, () => {}));
    expect([waiter.started, waiter.stopped]).toEqual([1, 0]);
    all[0]!.close();
    expect(waiter.stopped).toBe(0);
    all[1]!.close();
    all[1]!.close();
    expect([waiter.started, waiter.stopped]).toEqual([1, 1]);
  });

  it("mutant-R8 waits for the events that were wanted last", () => {
    const { waiter, reactor } = byHand();
    const { fd, ring } = bell();
    let called = 0;
    const watch = reactor.watch(fd, 0, () => void called++);
    watches.push(watch);
    ring();
    waiter.turn(0);
    expect(called).toBe(0);
    watch.want(sys.EPOLLIN);
    waiter.turn(0);
    expect(called).toBe(1);
    watch.want(0);
    waiter.turn(0);
    expect(called).toBe(1);
  });
});

describe("in a helper thread", () => {
  it("a reactor whose last watch has ended begins again, and rests", async () => {
    const it = helped();
    const { fd, ring, hush } = bell();
    const once = (): Promise<void> =>
      new Promise((resolve) => {
        const watch = it.watch(fd, sys.EPOLLIN, () => {
          hush();
          watch.close();
          resolve();
        });
        ring();
      });
    for (let i = 0; i < 3; i++) await once();
    const { promise, resolve } = Promise.withResolvers<void>();
    watches.push(
      it.watch(fd, sys.EPOLLIN, () => {
        hush();
        resolve();
      }),
    );
    ring();
    // The helper thread has begun when the handler runs.
    await promise;
    const before = it.turn;
    await new Promise((passed) => setTimeout(passed, 50));
    expect(it.turn - before).toBeLessThanOrEqual(2);
  });

  it("a process that is told to end ends while the helper waits", async () => {
    const index = new URL("../../shared/reactor/index.ts", import.meta.url).href;
    // No module: a worker thread would inherit its flag, and refuse it.
    const program = `void (async () => {
      const r = await import(${JSON.stringify(index)});
      const sys = await import(new URL("sys.ts", ${JSON.stringify(index)}).href);
      const watch = (await r.pollingReactor()).watch(sys.eventfd(1, 0), sys.EPOLLIN, () => {
        watch.want(0);
        setTimeout(() => process.exit(3), 50);
      });
    })();`;
    const child = await run([NODE, "-e", program], { env: { RINGWIRE_REACTOR: "0" } });
    expect(child.exit?.code).toBe(3);
  });
});

describe("in libuv's place", () => {
  it("libuv has a turn for its own descriptors, though no timer and no immediate asks for one", async () => {
    const index = new URL("../../shared/reactor/index.ts", import.meta.url).href;
    const program = `const r = await import(${JSON.stringify(index)});
      await r.prepareReactor();
      const sys = await import(new URL("sys.ts", ${JSON.stringify(index)}).href);
      const { readFile } = await import("node:fs");
      const watch = r.reactor().watch(sys.eventfd(1, 0), sys.EPOLLIN, () => {
        watch.want(0);
        readFile("/proc/self/stat", () => process.exit(3));
      });`;
    const child = await run([NODE, "--input-type=module", "-e", program]);
    expect(child.exit?.code).toBe(3);
  });

  it("a process calls whoever is to be called soon before it ends", async () => {
    const index = new URL("../../shared/reactor/index.ts", import.meta.url).href;
    const program = `const r = await import(${JSON.stringify(index)});
      await r.prepareReactor();
      const sys = await import(new URL("sys.ts", ${JSON.stringify(index)}).href);
      const watch = r.reactor().watch(sys.eventfd(1, 0), sys.EPOLLIN, () => {
        r.soon(() => console.log("called"));
        watch.close();
      });`;
    const child = await run([NODE, "--input-type=module", "-e", program]);
    expect(child.stdout).toBe("called\n");
  });

  it("an immediate, a timer and a thread of libuv end the wait", async () => {
    await prepareReactor();
    const { fd } = bell();
    watches.push(reactor()!.watch(fd, sys.EPOLLIN, () => {}));
    await immediate();
    await new Promise((resolve) => setTimeout(resolve, 1));
    const { readFile } = await import("node:fs/promises");
    expect((await readFile("/proc/self/stat", "utf8")).length).toBeGreaterThan(0);
  });

  it("soon runs in the next turn, whoever asks for it, and costs no turn without a wait", async () => {
    await prepareReactor();
    const it = reactor()!;
    const { fd, ring, hush } = bell();
    const rung: (() => void)[] = [];
    const watch = it.watch(fd, sys.EPOLLIN, () => {
      hush();
      for (const told of rung.splice(0)) soon(told);
    });
    const once = () =>
      new Promise<void>((resolve) => {
        rung.push(resolve);
        ring();
      });
    await once();
    const before = it.turn;
    // Each round: one turn for the descriptor.
    for (let i = 0; i < 50; i++) await once();
    expect(it.turn - before).toBeLessThan(75);
    // From a timer, behind which the thread would wait.
    await new Promise<void>((resolve) => setTimeout(() => soon(resolve), 1));
    // The last watch ends before its turn.
    const last = new Promise<void>((resolve) => soon(resolve));
    watch.close();
    await last;
  });

  it("runs promises and next ticks between two turns, and lets libuv rest meanwhile", async () => {
    await prepareReactor();
    const { fd } = bell();
    const { promise, resolve } = Promise.withResolvers<void>();
    const said: string[] = [];
    const late: string[] = [];
    let calls = 0;
    // Of libuv: it runs when the turns of the reactor end.
    let ofLibuv = 0;
    watches.push(
      reactor()!.watch(fd, sys.EPOLLIN | sys.EPOLLOUT, () => {
        if (calls > 0 && said.length < 2 * calls) late.push(`turn ${calls}`);
        calls++;
        process.nextTick(() => said.push("tick"));
        void Promise.resolve().then(() => said.push("promise"));
        soon(() => said.length < 2 * calls || late.push(`soon ${calls}`));
        if (calls === 1) setTimeout(() => void ofLibuv++, 20);
        if (ofLibuv > 0) resolve();
      }),
    );
    await promise;
    expect(late).toEqual([]);
    expect(calls).toBeGreaterThan(3);
  });

  it.each([
    ["offers to run promises", "many", ""],
    ["does not", "one", "process._tickCallback = undefined;"],
    ["offers a function that runs none", "one", "process._tickCallback = () => {};"],
  ])(
    "where Node %s, promises run before the next turn, and libuv has its turn behind %s of ours",
    async (_offer, turns, before) => {
      const room = new URL("../../shared/reactor/", import.meta.url).href;
      const program = `${before}
      const { prepareReactor, reactor } = await import("${room}index.ts");
      const sys = await import("${room}sys.ts");
      await prepareReactor();
      const fd = sys.eventfd(1, sys.O_CLOEXEC);
      let promises = 0, calls = 0, libuvs = 0, late = 0;
      const { promise, resolve } = Promise.withResolvers();
      const look = () => { libuvs++; if (!watch.closed) setImmediate(look).unref(); };
      const watch = reactor().watch(fd, sys.EPOLLIN, () => {
        if (promises < calls) late++;
        if (++calls === 300) resolve();
        void Promise.resolve().then(() => promises++);
      });
      look();
      await promise;
      watch.close();
      console.log(JSON.stringify({ late, often: calls > 2 * libuvs }));`;
      const child = await run([NODE, "--input-type=module", "-e", program]);
      expect(JSON.parse(child.stdout)).toEqual({ late: 0, often: turns === "many" });
    },
  );

  it("measures its turns", async () => {
    await prepareReactor();
    const { fd, ring, hush } = bell();
    const { promise, resolve } = Promise.withResolvers<void>();
    watches.push(
      reactor()!.watch(fd, sys.EPOLLIN, () => {
        hush();
        const end = performance.now() + 25;
        while (performance.now() < end);
        resolve();
      }),
    );
    ring();
    await promise;
    await immediate();
    await immediate();
    const { waits, whyLibuv, longestTurnMs, turns } = dataPathStatus();
    expect({ waits, whyLibuv }).toEqual({ waits: "reactor", whyLibuv: "" });
    expect(longestTurnMs).toBeGreaterThanOrEqual(25);
    expect(Object.values(turns).reduce((a, b) => a + b)).toBeGreaterThan(0);
  });

  it.each([
    ["1", { waits: "reactor", whyLibuv: "" }],
    ["0", { waits: "libuv", whyLibuv: "RINGWIRE_REACTOR=0" }],
  ])(
    "a process with RINGWIRE_REACTOR=%s says what waits, and ends by itself",
    async (set, said) => {
      const index = new URL("../../shared/reactor/index.ts", import.meta.url).href;
      const program = `const r = await import(${JSON.stringify(index)}); await r.prepareReactor();
      const { waits, whyLibuv } = r.dataPathStatus(); console.log(JSON.stringify({ waits, whyLibuv }));`;
      const argv = [NODE, "--input-type=module", "-e", program];
      const child = await run(argv, { env: { ...process.env, RINGWIRE_REACTOR: set } });
      expect(JSON.parse(child.stdout)).toEqual(said);
    },
  );
});
