import { describe, expect, it } from "vitest";
import { EventChannels } from "../../device/xen/event-channel.ts";

const SELF = 0x7ff0;
const EPERM = -1;
const ESRCH = -3;
const EINVAL = -22;
const ENOSPC = -28;

interface Machine {
  readonly events: EventChannels;
  readonly clock: { ms: number };
  /** Upcalls of domains 1 and 2: [domid, port]. */
  readonly upcalls: [number, number][];
}

function machine(maxPorts?: number): Machine {
  const clock = { ms: 0 };
  const upcalls: [number, number][] = [];
  const options = { now: () => clock.ms };
  const events = new EventChannels(maxPorts === undefined ? options : { ...options, maxPorts });
  for (const domid of [1, 2]) events.attach(domid, (port) => upcalls.push([domid, port]));
  return { events, clock, upcalls };
}

/** A guest's port joined to one of domain 0, with its first pending bit cleared. */
function joined(m: Machine): { guest: number; backend: number } {
  const guest = m.events.allocUnbound(1, SELF, 0);
  const backend = m.events.bindInterdomain(0, 1, guest);
  m.events.pollPending(0, backend);
  return { guest, backend };
}

describe("ports", () => {
  it("begin at 1, each domain for itself, and are given out again", () => {
    const { events } = machine();
    expect(events.allocUnbound(1, SELF, 0)).toBe(1);
    expect(events.allocUnbound(1, 1, 0)).toBe(2);
    expect(events.allocUnbound(2, SELF, 0)).toBe(1);
    expect(events.close(1, 1)).toBe(0);
    expect(events.allocUnbound(1, SELF, 0)).toBe(1);
  });

  it("run out", () => {
    const { events } = machine();
    for (let port = 1; port < 4096; port++) expect(events.allocUnbound(1, SELF, 0)).toBe(port);
    expect(events.allocUnbound(1, SELF, 0)).toBe(ENOSPC);
    expect(events.allocUnbound(2, SELF, 0)).toBe(1);
    expect(events.bindInterdomain(1, 2, 1)).toBe(ENOSPC);
    events.close(1, 77);
    expect(events.allocUnbound(1, SELF, 0)).toBe(77);
  });

  it("are made for others by domain 0 only", () => {
    const { events } = machine();
    expect(events.allocUnbound(1, 2, 0)).toBe(EPERM);
    expect(events.allocUnbound(0, 2, 0)).toBe(1);
    expect(events.allocUnbound(1, 9, 0)).toBe(ESRCH);
  });

  it("are bound by the domain they are for, once", () => {
    const { events } = machine();
    const port = events.allocUnbound(1, SELF, 0);
    expect(events.bindInterdomain(2, 1, port)).toBe(EINVAL);
    expect(events.bindInterdomain(0, 1, 55)).toBe(EINVAL);
    expect(events.bindInterdomain(0, 1, 0)).toBe(EINVAL);
    expect(events.bindInterdomain(0, 9, 1)).toBe(ESRCH);
    const backend = events.bindInterdomain(0, 1, port);
    expect(backend).toBe(1);
    expect(events.bindInterdomain(0, 1, port)).toBe(EINVAL);
    expect(events.status(1, SELF, port)).toEqual({ status: 2, dom: 0, port: backend });
    expect(events.status(0, SELF, backend)).toEqual({ status: 2, dom: 1, port });
  });

  it("a domain may join two ports of its own", () => {
    const m = machine();
    const first = m.events.allocUnbound(1, SELF, SELF);
    const second = m.events.bindInterdomain(1, SELF, first);
    m.upcalls.length = 0;
    m.events.send(1, first);
    m.events.send(1, second);
    expect(m.upcalls).toEqual([
      [1, second],
      [1, first],
    ]);
  });

  it("status: closed, unbound, other domains", () => {
    const { events } = machine();
    const port = events.allocUnbound(1, SELF, 2);
    expect(events.status(1, SELF, port)).toEqual({ status: 1, dom: 2, port: 0 });
    expect(events.status(1, SELF, 77)).toEqual({ status: 0, dom: 0, port: 0 });
    expect(events.status(0, 1, port)).toEqual({ status: 1, dom: 2, port: 0 });
    expect(events.status(2, 1, port)).toBe(EPERM);
    expect(events.status(1, 9, 1)).toBe(ESRCH);
    expect(events.status(1, SELF, 4096)).toBe(EINVAL);
  });

  it("closing one end leaves the other unbound, to be bound by the same domain again", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    expect(m.events.close(0, backend)).toBe(0);
    expect(m.events.close(0, backend)).toBe(EINVAL);
    expect(m.events.status(1, SELF, guest)).toEqual({ status: 1, dom: 0, port: 0 });
    expect(m.events.send(1, guest)).toBe(0);
    expect(m.events.bindInterdomain(2, 1, guest)).toBe(EINVAL);
    expect(m.events.bindInterdomain(0, 1, guest)).toBe(backend);
  });

  it("a domain that goes closes its ports", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    m.events.detach(1);
    expect(m.events.status(0, SELF, backend)).toEqual({ status: 1, dom: 1, port: 0 });
    expect(m.events.send(0, backend)).toBe(0);
    expect(m.events.send(1, guest)).toBe(EINVAL);
    expect(m.events.allocUnbound(1, SELF, 0)).toBe(ESRCH);
    expect(m.events.close(0, backend)).toBe(0);
    m.events.attach(1, () => {});
    expect(m.events.allocUnbound(1, SELF, 0)).toBe(1);
  });

  it("a domain is attached once", () => {
    const { events } = machine();
    expect(() => events.attach(1, () => {})).toThrow("domain 1");
  });

  it("operations on a port that is not open", () => {
    const { events } = machine();
    for (const port of [0, 5, 4096, 0xffffffff]) {
      expect([
        events.close(1, port),
        events.send(1, port),
        events.mask(1, port),
        events.unmask(1, port),
        events.pollPending(1, port),
        events.bindHandler(1, port, () => {}),
      ]).toEqual(Array(6).fill(EINVAL));
      events.eoi(1, port, true);
    }
    expect(events.nextTick).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("pending", () => {
  it("binding makes the binder's port pending once", () => {
    const m = machine();
    const port = m.events.allocUnbound(0, SELF, 1);
    const guest = m.events.bindInterdomain(1, 0, port);
    expect(m.upcalls).toEqual([[1, guest]]);
    expect(m.events.pollPending(0, port)).toBe(0);
  });

  it("the upcall carries the bit to a guest; behind a mask events are one", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    m.events.send(0, backend);
    m.events.send(0, backend);
    expect(m.upcalls).toEqual([
      [1, guest],
      [1, guest],
    ]);
    expect(m.events.pollPending(1, guest)).toBe(0);
    m.events.mask(1, guest);
    for (let i = 0; i < 5; i++) m.events.send(0, backend);
    expect(m.upcalls).toHaveLength(2);
    m.events.unmask(1, guest);
    expect(m.upcalls).toHaveLength(3);
  });

  it("a bit that is taken behind a mask is not delivered", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    m.events.mask(1, guest);
    m.events.send(0, backend);
    expect(m.events.pollPending(1, guest)).toBe(1);
    expect(m.events.pollPending(1, guest)).toBe(0);
    m.events.unmask(1, guest);
    expect(m.upcalls).toEqual([]);
  });

  it("a backend's port keeps its bit until there is a handler", () => {
    const m = machine();
    const taken: number[] = [];
    m.events.attach(0, (port) => taken.push(port));
    const { guest, backend } = joined(m);
    m.events.send(1, guest);
    m.events.send(1, guest);
    expect(taken).toEqual([backend, backend]);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    expect(turns).toBe(1);
  });

  it("a mask keeps the bit; unmasking delivers it, once", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    m.events.mask(1, guest);
    m.events.send(0, backend);
    expect(m.upcalls).toEqual([]);
    m.events.unmask(1, guest);
    expect(m.upcalls).toEqual([[1, guest]]);
    m.events.unmask(1, guest);
    expect(m.upcalls).toHaveLength(1);
    m.events.mask(1, guest);
    m.events.unmask(1, guest);
    expect(m.upcalls).toHaveLength(1);
  });

  it("what was sent before anybody bound is made up for by the first turn", () => {
    const m = machine();
    const guest = m.events.allocUnbound(1, SELF, 0);
    expect(m.events.send(1, guest)).toBe(0);
    const backend = m.events.bindInterdomain(0, 1, guest);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    expect(turns).toBe(1);
  });
});

describe("handlers", () => {
  it("have one turn until its end; what comes meanwhile is one more", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    for (let i = 0; i < 4; i++) m.events.send(1, guest);
    expect(turns).toBe(1);
    m.events.eoi(0, backend, false);
    expect(turns).toBe(2);
    m.events.eoi(0, backend, false);
    expect(turns).toBe(2);
    m.events.send(1, guest);
    expect(turns).toBe(3);
  });

  it("may end their turn within it, and be sent to within it", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let depth = 0;
    let deepest = 0;
    let turns = 0;
    m.events.bindHandler(0, backend, () => {
      deepest = Math.max(deepest, ++depth);
      turns++;
      if (turns < 1000) m.events.send(1, guest);
      m.events.eoi(0, backend, false);
      depth--;
    });
    m.events.send(1, guest);
    expect({ turns, deepest }).toEqual({ turns: 1000, deepest: 1 });
  });

  it("a masked port makes no turn until it is unmasked", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    m.events.mask(0, backend);
    m.events.send(1, guest);
    expect(turns).toBe(0);
    m.events.unmask(0, backend);
    expect(turns).toBe(1);
    m.events.mask(0, backend);
    m.events.send(1, guest);
    m.events.eoi(0, backend, false);
    expect(turns).toBe(1);
    m.events.unmask(0, backend);
    expect(turns).toBe(2);
  });

  it("a handler that masks its port has no turn more, though it was sent to", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => {
      turns++;
      // The number of turns is bounded, so that an endless loop shows as a wrong number.
      if (turns < 9) m.events.send(1, guest);
      if (turns === 3) m.events.mask(0, backend);
      m.events.eoi(0, backend, false);
    });
    m.events.send(1, guest);
    expect(turns).toBe(3);
  });

  it("a handler that throws leaves its port usable", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => {
      if (turns++ === 0) throw new Error("broken");
    });
    expect(() => m.events.send(1, guest)).toThrow("broken");
    m.events.eoi(0, backend, false);
    m.events.send(1, guest);
    expect(turns).toBe(2);
  });

  it("closing a port in its turn ends its turns", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => {
      turns++;
      m.events.send(1, guest);
      m.events.close(0, backend);
      m.events.eoi(0, backend, false);
    });
    m.events.send(1, guest);
    m.events.send(1, guest);
    expect(turns).toBe(1);
  });
});

describe("delay of spurious events", () => {
  it("the first is free, then 1, 2, 4 ... at most 1000 ms", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    const delays: number[] = [];
    m.events.send(1, guest);
    for (let i = 0; i < 14; i++) {
      m.events.send(1, guest);
      const before = turns;
      m.events.eoi(0, backend, true);
      if (turns > before) {
        delays.push(0);
        continue;
      }
      const next = m.events.nextTick;
      delays.push(next - m.clock.ms);
      m.events.tick(next - 1);
      expect(turns).toBe(before);
      m.clock.ms = next;
      m.events.tick(next);
      expect(turns).toBe(before + 1);
    }
    expect(delays).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
  });

  it("an honest turn forgives; what was sent in a delay is not lost", () => {
    const m = machine();
    const { guest, backend } = joined(m);
    let turns = 0;
    m.events.bindHandler(0, backend, () => turns++);
    const turn = (spurious: boolean) => {
      m.events.send(1, guest);
      m.events.eoi(0, backend, spurious);
    };
    turn(true);
    turn(true);
    turn(true);
    expect(m.events.nextTick).toBe(1);
    // A second end of a turn does not shorten its delay.
    m.events.eoi(0, backend, false);
    expect(turns).toBe(2);
    m.events.tick(1);
    expect(turns).toBe(3);
    m.events.eoi(0, backend, false);
    expect(m.events.nextTick).toBe(Number.POSITIVE_INFINITY);
    turn(true);
    expect(m.events.nextTick).toBe(Number.POSITIVE_INFINITY);
    turn(true);
    expect(m.events.nextTick).toBe(1);
  });

  it("a port that closes or whose domain goes leaves nothing behind", () => {
    const m = machine();
    for (const gone of ["port", "domain"] as const) {
      const { guest, backend } = joined(m);
      let turns = 0;
      m.events.bindHandler(0, backend, () => turns++);
      for (let i = 0; i < 3; i++) {
        m.events.send(1, guest);
        m.events.eoi(0, backend, true);
      }
      expect(m.events.nextTick).toBeLessThan(Number.POSITIVE_INFINITY);
      if (gone === "port") m.events.close(0, backend);
      else m.events.detach(0);
      expect(m.events.nextTick).toBe(Number.POSITIVE_INFINITY);
      m.events.tick(1e9);
      expect(turns).toBe(2);
      m.events.close(1, guest);
    }
  });

  it("a delayed turn may close another delayed port", () => {
    const m = machine();
    const a = joined(m);
    const b = joined(m);
    const turns = { a: 0, b: 0 };
    const upcalls: number[] = [];
    m.events.attach(0, (port) => upcalls.push(port));
    m.events.bindHandler(0, a.backend, () => {
      turns.a++;
      if (turns.a === 3) m.events.close(0, b.backend);
    });
    m.events.bindHandler(0, b.backend, () => turns.b++);
    for (const { guest, backend } of [a, b]) {
      m.events.send(1, guest);
      for (let i = 0; i < 2; i++) {
        m.events.send(1, guest);
        m.events.eoi(0, backend, true);
      }
      m.events.send(1, guest);
    }
    m.events.tick(5);
    expect(turns).toEqual({ a: 3, b: 2 });
    expect(upcalls).toEqual([]);
  });
});

it("ports and events are counted", () => {
  const m = machine();
  const { guest, backend } = joined(m);
  m.events.bindHandler(0, backend, () => {});
  m.events.send(1, guest);
  m.events.send(1, guest);
  m.events.send(1, guest);
  m.events.eoi(0, backend, true);
  const port = m.events.allocUnbound(1, SELF, 0);
  m.events.send(1, port);
  m.events.mask(1, port);
  const idle = { ports: 0, bound: 0, pending: 0, masked: 0, waiting: 0 };
  expect(m.events.counts).toEqual({
    sent: 4,
    coalesced: 1,
    unbound: 1,
    turns: 2,
    spurious: 1,
    delayed: 0,
  });
  expect([0, 1, 2].map((domid) => m.events.use(domid))).toEqual([
    { ...idle, ports: 1, bound: 1 },
    { ...idle, ports: 2, bound: 1, masked: 1 },
    idle,
  ]);
});
