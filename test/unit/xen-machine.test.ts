/** State that the domains of one machine share: their numbers, and the timer. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GrantTable } from "../../device/xen/grant-table.ts";
import { type Domain, XenMachine } from "../../device/xen/machine.ts";
import { silentLogger } from "../../shared/log.ts";
import { XsType, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";

const SELF = 0x7ff0;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function domain(machine: XenMachine, deliver: (message: Uint8Array) => void = () => {}): Domain {
  const domid = machine.newDomid();
  const one: Domain = {
    domid,
    grants: new GrantTable({ domid, use: () => {} }),
    upcall: () => {},
    deliver,
    room: () => true,
    cut: () => {},
    suspended: () => 0,
  };
  machine.introduce(one);
  return one;
}

test("what is due sooner does not wait for what is due later", () => {
  const machine = new XenMachine(silentLogger);
  const { domid } = domain(machine);
  // Nothing is due before this transaction ends, in 20 s.
  machine.xenstore.request(domid, xsMessage(XsType.TRANSACTION_START, 1, 0, xsStrings("")));
  machine.settle();

  const other = domain(machine).domid;
  const guest = machine.events.allocUnbound(other, SELF, 0);
  const backend = machine.events.bindInterdomain(0, other, guest);
  let turns = 0;
  machine.events.bindHandler(0, backend, () => {
    turns++;
    machine.events.eoi(0, backend, true);
  });
  for (let i = 0; i < 3; i++) machine.events.send(other, guest);
  machine.settle();
  const before = turns;
  // The second spurious event in a row delays the third by a millisecond.
  vi.advanceTimersByTime(5);
  expect(turns).toBeGreaterThan(before);
});

test("requests that wait for their domain's debt are served without anybody asking again", () => {
  const machine = new XenMachine(silentLogger);
  let replies = 0;
  const { domid } = domain(machine, () => replies++);
  machine.store.mkdir(`/local/domain/${domid}`);
  machine.store.setPerms(`/local/domain/${domid}`, [`n${domid}`]);
  const branch = Array.from({ length: 900 }, () => "a").join("/");
  const ask = (type: XsType, payload: Uint8Array): void => {
    machine.xenstore.request(domid, xsMessage(type, 1, 0, payload));
  };
  let sent = 0;
  for (; replies === sent && sent < 100; sent += 2) {
    ask(XsType.MKDIR, xsStrings(branch));
    ask(XsType.RM, xsStrings("a"));
  }
  machine.settle();
  expect(replies).toBeLessThan(sent);
  vi.advanceTimersByTime(5000);
  expect(replies).toBe(sent);
});

test("as many vifs as a device takes have their 17 ports each", () => {
  const machine = new XenMachine(silentLogger);
  for (let vif = 0; vif < 300; vif++) {
    const { domid } = domain(machine);
    for (let queue = 0; queue < 17; queue++) {
      const port = machine.events.allocUnbound(domid, SELF, 0);
      if (machine.events.bindInterdomain(0, domid, port) < 0) expect([vif, queue]).toEqual([]);
    }
  }
});
