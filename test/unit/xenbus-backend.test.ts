/** The backend's state machine, compared with the states of Linux's xen-netback. */
import { describe, expect, it } from "vitest";
import type { NetbackConfig } from "../../device/xen/netback/config.ts";
import { VifKeyError } from "../../device/xen/netback/config.ts";
import { parseRate, readFrontendKeys } from "../../device/xen/vif-keys.ts";
import { type VifDevice, type VifStore, XenbusBackend } from "../../device/xen/xenbus-backend.ts";
import { XenbusState as S } from "../../shared/xen/xenbus.ts";

const OFFER = { maxQueues: 4, splitEventChannels: true, controlRing: true, multicastControl: true };

const GOOD: Readonly<Record<string, string>> = {
  "tx-ring-ref": "8",
  "rx-ring-ref": "9",
  "event-channel": "3",
  "request-rx-copy": "1",
  "feature-rx-notify": "1",
  "feature-sg": "1",
};

/** Directories and a device in memory that record the machine's calls. */
class Stage implements VifStore, VifDevice {
  readonly keys: Record<string, string> = { ...GOOD, state: "1" };
  readonly backKeys: Record<string, string> = { online: "1" };
  readonly did: string[] = [];
  refuse: string | undefined;
  rate: unknown = "never set";
  config: NetbackConfig | undefined;
  readonly backend = new XenbusBackend(this, this, OFFER);

  front(key: string): string | undefined {
    return this.keys[key];
  }
  back(key: string): string | undefined {
    return this.backKeys[key];
  }
  writeBack(key: string, value: string): void {
    this.did.push(`${key}=${value}`);
  }
  writeError(text: string): void {
    this.did.push(`error ${text}`);
  }
  connect(config: NetbackConfig): string | undefined {
    this.config = config;
    this.did.push("connect");
    return this.refuse;
  }
  disconnect(): void {
    this.did.push("disconnect");
  }
  setRate(rate: unknown): void {
    this.rate = rate;
  }
  failed(code: string): void {
    this.did.push(`failed ${code}`);
  }
  remove(): void {
    this.did.push("gone");
  }

  /** The frontend goes to `state`. Returns what the backend did then. */
  frontendTo(state: number | undefined): string[] {
    if (state === undefined) delete this.keys["state"];
    else this.keys["state"] = String(state);
    this.did.length = 0;
    this.backend.frontendChanged();
    return [...this.did];
  }
}

/** A stage whose backend is in `state`. */
function standing(state: number): Stage {
  const stage = new Stage();
  stage.backend.start();
  if (state === S.CONNECTED) stage.frontendTo(S.CONNECTED);
  if (state === S.CLOSING) stage.frontendTo(S.CLOSING);
  if (state === S.CLOSED) stage.frontendTo(S.CLOSED);
  expect(stage.backend.state).toBe(state);
  return stage;
}

// The writes of xen-netback when the frontend's state changes: set_backend_state, followed by hand.
const TABLE: readonly [from: number, frontend: number | undefined, did: readonly string[]][] = [
  [S.INIT_WAIT, S.INITIALISING, []],
  [S.INIT_WAIT, S.INIT_WAIT, ["fail"]],
  [S.INIT_WAIT, S.INITIALISED, []],
  [S.INIT_WAIT, S.CONNECTED, ["connect", "state=4"]],
  [S.INIT_WAIT, S.CLOSING, ["state=5"]],
  [S.INIT_WAIT, S.CLOSED, ["state=5", "state=6"]],
  [S.INIT_WAIT, undefined, ["state=5", "state=6"]],
  [S.CONNECTED, S.INITIALISING, ["disconnect", "state=5", "state=6", "state=2"]],
  [S.CONNECTED, S.INITIALISED, []],
  [S.CONNECTED, S.CLOSING, ["disconnect", "state=5"]],
  [S.CONNECTED, S.CLOSED, ["disconnect", "state=5", "state=6"]],
  [S.CONNECTED, S.RECONFIGURING, ["fail"]],
  [S.CONNECTED, S.RECONFIGURED, ["fail"]],
  [S.CONNECTED, undefined, ["disconnect", "state=5", "state=6"]],
  [S.CLOSING, S.INITIALISING, ["state=6", "state=2"]],
  [S.CLOSING, S.INITIALISED, []],
  [S.CLOSING, S.CONNECTED, ["state=6", "state=2", "connect", "state=4"]],
  [S.CLOSING, S.CLOSED, ["state=6"]],
  [S.CLOSING, undefined, ["state=6"]],
  [S.CLOSED, S.INITIALISING, ["state=2"]],
  [S.CLOSED, S.INITIALISED, []],
  [S.CLOSED, S.CONNECTED, ["state=2", "connect", "state=4"]],
  [S.CLOSED, S.CLOSING, ["state=5"]],
  [S.CLOSED, undefined, []],
];

const nameOf = (state: number | undefined): string =>
  state === undefined
    ? "absent"
    : (Object.entries(S).find(([, n]) => n === state)?.[0] ?? String(state));

describe("the backend's state machine", () => {
  it.each(TABLE.map(([from, to, did]) => [nameOf(from), nameOf(to), from, to, did] as const))(
    "in %s, the frontend goes to %s",
    (_from, _to, from, to, did) => {
      const stage = standing(from);
      const done = stage.frontendTo(to);
      if (did[0] !== "fail") {
        expect(done).toEqual(did);
        return;
      }
      expect(done[0]).toMatch(/^error the frontend went to state/);
      expect(done[1]).toBe("failed XENBUS_STATE");
      expect(stage.backend.state).toBe(S.CLOSING);
      expect(done.filter((d) => d === "disconnect")).toHaveLength(from === S.CONNECTED ? 1 : 0);
    },
  );

  it("connects again after a failed connect, once the frontend starts anew", () => {
    const stage = standing(S.INIT_WAIT);
    stage.refuse = "tx-ring-ref 8 can't be mapped";
    expect(stage.frontendTo(S.CONNECTED)).toEqual([
      "connect",
      "error tx-ring-ref 8 can't be mapped",
      "failed XENBUS_CONNECT",
      "state=5",
    ]);
    expect(stage.frontendTo(S.CLOSED)).toEqual(["state=6"]);
    stage.refuse = undefined;
    expect(stage.frontendTo(S.INITIALISING)).toEqual(["state=2"]);
    expect(stage.frontendTo(S.CONNECTED)).toEqual(["connect", "state=4"]);
  });

  it("is disabled once by the data path, and says so once", () => {
    const stage = standing(S.CONNECTED);
    stage.did.length = 0;
    stage.backend.fatal("NETBACK_RING", "the ring is broken");
    stage.backend.fatal("NETBACK_RING", "the ring is broken");
    expect(stage.did).toEqual([
      "error the ring is broken",
      "failed NETBACK_RING",
      "disconnect",
      "state=5",
    ]);
  });

  it("is gone when it closes and is not online", () => {
    const stage = standing(S.CONNECTED);
    stage.backKeys["online"] = "0";
    expect(stage.frontendTo(S.CLOSED)).toEqual(["disconnect", "state=5", "state=6", "gone"]);
  });

  it("heeds a rate when it connects and when it changes, and keeps it when it is nonsense", () => {
    const stage = new Stage();
    stage.backKeys["rate"] = "10000,50000";
    stage.backend.start();
    stage.backend.rateChanged();
    expect(stage.rate).toBe("never set");
    stage.frontendTo(S.CONNECTED);
    expect(stage.rate).toEqual({ bytes: 10000, usec: 50000 });
    stage.backKeys["rate"] = "lots";
    stage.backend.rateChanged();
    expect(stage.rate).toEqual({ bytes: 10000, usec: 50000 });
    expect(stage.did.at(-1)).toContain('rate: "lots"');
  });
});

describe("fault-H7: keys of a hostile frontend", () => {
  const read = (keys: Record<string, string>) => (key: string) => keys[key];
  const HOSTILE: readonly [key: string, value: string | undefined][] = [
    ["tx-ring-ref", undefined],
    ["tx-ring-ref", "-1"],
    ["tx-ring-ref", "1.5"],
    ["tx-ring-ref", "4294967296"],
    ["tx-ring-ref", "99999999999999999999"],
    ["tx-ring-ref", "0x8"],
    ["tx-ring-ref", " 8"],
    ["tx-ring-ref", ""],
    ["rx-ring-ref", "eight"],
    ["event-channel", undefined],
    ["event-channel", "0"],
    ["event-channel", "4096"],
    ["event-channel-tx", "0"],
    ["multi-queue-num-queues", "0"],
    ["multi-queue-num-queues", "5"],
    ["multi-queue-num-queues", "1000000000"],
    ["request-rx-copy", "0"],
    ["request-rx-copy", undefined],
    ["feature-sg", "2"],
    ["feature-rx-notify", "yes"],
    ["feature-gso-tcpv4", "2"],
    ["feature-no-csum-offload", "-0"],
    ["ctrl-ring-ref", "x"],
  ];
  it.each(HOSTILE)("%s = %s is refused by its name", (key, value) => {
    const keys: Record<string, string> = { ...GOOD };
    if (value === undefined) delete keys[key];
    else keys[key] = value;
    let thrown: unknown;
    try {
      readFrontendKeys(read(keys), OFFER);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(VifKeyError);
    expect((thrown as VifKeyError).key).toBe(key);
  });

  it("takes one queue at the top and several in queue-N", () => {
    expect(readFrontendKeys(read(GOOD), OFFER)).toEqual({
      queues: [{ txRingRef: 8, rxRingRef: 9, txPort: 3, rxPort: 3 }],
      rxNotify: true,
      sg: true,
      gsoTcpv4: false,
      gsoTcpv6: false,
      noCsumOffload: false,
      ipv6CsumOffload: false,
      multicastControl: false,
    });
    const two: Record<string, string> = {
      "request-rx-copy": "1",
      "multi-queue-num-queues": "2",
      "queue-0/tx-ring-ref": "10",
      "queue-0/rx-ring-ref": "11",
      "queue-0/event-channel-tx": "4",
      "queue-0/event-channel-rx": "5",
      "queue-1/tx-ring-ref": "12",
      "queue-1/rx-ring-ref": "13",
      "queue-1/event-channel": "6",
    };
    expect(readFrontendKeys(read(two), OFFER).queues).toEqual([
      { txRingRef: 10, rxRingRef: 11, txPort: 4, rxPort: 5 },
      { txRingRef: 12, rxRingRef: 13, txPort: 6, rxPort: 6 },
    ]);
  });

  it("a rate of nothing is no limit", () => {
    expect(parseRate(undefined)).toBeUndefined();
    expect(parseRate("0,50000")).toBeUndefined();
    expect(parseRate("1000,50000")).toEqual({ bytes: 1000, usec: 50000 });
    expect(() => parseRate("1000")).toThrow(VifKeyError);
  });
});
