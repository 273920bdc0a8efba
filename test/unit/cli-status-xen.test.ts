/** The Xen part of `status`, from a real device's page. */
import { describe, expect, it } from "vitest";
import { statusLines } from "../../cli/status/text.ts";
import type { NicStatus } from "../../shared/status/device-status.ts";
import { merged, pageOf } from "../support/status.ts";

const ring = (reqProd: number, reqCons: number, rspProd: number) => ({
  size: 256,
  free: 256 - (reqProd - rspProd),
  reqProd,
  reqCons,
  rspProd,
});

const model = {
  domid: 3,
  backend: "connected",
  frontend: "connected",
  disabled: false,
  stalled: false,
  grants: { version: 1, granted: 259, mapped: 3, inUse: 4 },
  features: {
    sg: true,
    gsoTcpv4: true,
    gsoTcpv6: false,
    csumOffload: true,
    ipv6CsumOffload: false,
    rxNotify: true,
  },
  store: { nodes: 26, watches: 2 },
  events: { ports: 1 },
  queues: [
    {
      tx: { stage: "credit", credit: 1200, packets: 41, drops: 1, ring: ring(50, 45, 42) },
      rx: { queued: 7, stalled: false, packets: 30, drops: 2, ring: ring(286, 30, 30) },
      txPort: 5,
      rxPort: 5,
      spuriousEvents: 9,
    },
  ],
  control: { requests: 8, refused: 3, port: 6, spuriousEvents: 1, ring: ring(8, 8, 8) },
};

const page = (changes: object = {}) => {
  const nic = merged(pageOf().nics[1], { name: "xn0", nic: model }) as NicStatus;
  const nics = [{ ...nic, nic: { ...nic.nic, ...changes } }];
  const lines = statusLines({ ...pageOf(), nics, addresses: {} });
  return lines.map((line) => line.split(/ {2,}/));
};

/** The row with these first cells, by the names in the heading. */
function row(lines: readonly string[][], heading: string, ...begins: string[]) {
  const names = lines.find((cells) => cells.includes(heading));
  const cells = lines.find((line) => begins.every((cell, i) => line[i]?.trim() === cell));
  if (names === undefined || cells === undefined) throw new Error(`no row ${begins.join(" ")}`);
  return Object.fromEntries(names.map((name, i) => [name.trim(), cells[i]?.trim()]));
}

describe("status of Xen", () => {
  it("shows the domain: both states, grants, ports, store, what its frontend takes", () => {
    expect(row(page(), "frontend takes", "xn0", "3")).toMatchObject({
      frontend: "connected",
      backend: "connected",
      table: "v1",
      grants: "259",
      mapped: "3",
      "in use": "4",
      ports: "1",
      nodes: "26",
      watches: "2",
      "frontend takes": "sg gso4 csum4",
    });
  });

  it("shows each ring: indexes, free slots, its channel, credit and what waits", () => {
    const lines = page();
    expect(row(lines, "req prod", "xn0", "tx 0")).toMatchObject({
      state: "credit, 1,200 B left",
      "req prod": "50",
      "req cons": "45",
      "rsp prod": "42",
      free: "248/256",
      port: "5",
      spurious: "9",
      packets: "41",
      lost: "1",
    });
    expect(row(lines, "req prod", "xn0", "rx 0")).toMatchObject({
      state: "7 queued",
      "req prod": "286",
      free: "0/256",
      packets: "30",
      lost: "2",
    });
    expect(row(lines, "req prod", "xn0", "ctrl")).toMatchObject({
      port: "6",
      spurious: "1",
      packets: "8",
      lost: "3",
    });
  });

  it("says what is wrong with a vif before what its state is", () => {
    const stateOf = (changes: object) =>
      page(changes).find((cells) => cells[0] === "xn0" && cells[1] === "xen")?.[2];
    expect(stateOf({})).toBe("connected");
    expect(stateOf({ stalled: true })).toBe("stalled");
    expect(stateOf({ stalled: true, disabled: true })).toBe("disabled");
    expect(stateOf({ backend: "init_wait" })).toBe("init_wait");
  });

  it("shows a guest that has said nothing yet", () => {
    const bare = { domid: 3, backend: "init_wait", frontend: "unknown", queues: undefined };
    const lines = page({ ...bare, features: {}, control: undefined });
    expect(row(lines, "frontend takes", "xn0", "3")).toMatchObject({ "frontend takes": "-" });
    expect(lines.flat().join()).not.toContain("undefined");
  });
});
