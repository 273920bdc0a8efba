import { beforeEach, describe, expect, it } from "vitest";
import { Refusal } from "../../device/admission.ts";
import { Roster } from "../../device/roster.ts";
import { EVERYTHING, Segments } from "../../device/segments/segments.ts";
import type { PortOptions } from "../../device/switch/port-options.ts";
import { Switch } from "../../device/switch/switch.ts";
import { formatMac } from "../../shared/net/ethernet.ts";
import { type Hello, parseHello } from "../../shared/wire/hello.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";

class Frontend {
  silentSeconds = 0;
  deadAfter = 4;
  readonly closed: [CloseCode, string][] = [];
  readonly leave: (frontend: Frontend) => void;
  constructor(leave: (frontend: Frontend) => void) {
    this.leave = leave;
  }
  close(code: CloseCode, reason: string): void {
    this.closed.push([code, reason]);
    this.leave(this);
  }
}

let roster: Roster<Frontend>;
let uplinks: string[];
let processes: number;
/** Options of every port. */
let rules: PortOptions;

beforeEach(() => {
  uplinks = [];
  rules = {};
  processes = 0;
  roster = new Roster(
    { name: "lan0", hasPort: (name) => uplinks.includes(name), optionsOf: () => rules },
    64,
  );
});

/**
 * Says hello and returns the outcome. Each call is another process unless `more` says otherwise.
 */
function join(name: string, more: Partial<Hello> = {}) {
  const frontend = new Frontend((gone) => roster.remove(gone));
  const hello = parseHello({
    version: 1,
    personality: "ena",
    name,
    instance: `process ${++processes}`,
    ...more,
  });
  const place = roster.admit(frontend, hello);
  return { frontend, name: place.name, mac: formatMac(place.mac) };
}

function refusalOf(name: string, more: Partial<Hello> = {}): Refusal {
  try {
    join(name, more);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error(`${name} was admitted`);
}

describe("a name in use", () => {
  it("attack-S5 is refused to a stranger while its owner is alive, with the next free name", () => {
    const owner = join("ena0");
    const refusal = refusalOf("ena0");
    expect(refusal.code).toBe("NAME_IN_USE");
    expect(refusal.message).toContain('the next free name is "ena1"');
    // Programs read this sentence too, so it names no flag.
    expect(refusal.message).not.toContain("--");
    expect(owner.frontend.closed).toEqual([]);
    expect(roster.get("ena0")).toBe(owner.frontend);
  });

  it("attack-S5 is its own process's at once, although the old connection seems alive", () => {
    const first = join("ena0", { instance: "me" });
    const second = join("ena0", { instance: "me" });
    expect(first.frontend.closed).toMatchObject([
      [CloseCode.REPLACED, expect.stringMatching(/the same process/)],
    ]);
    expect(roster.get("ena0")).toBe(second.frontend);
  });

  it("attack-S5 is a newcomer's when its owner is silent", () => {
    const owner = join("ena0");
    owner.frontend.silentSeconds = 1;
    expect(refusalOf("ena0").code).toBe("NAME_IN_USE");
    owner.frontend.silentSeconds = 2;
    const heir = join("ena0");
    expect(owner.frontend.closed[0]).toEqual([
      CloseCode.REPLACED,
      "another frontend took the name of ena0, which gave no sign of life for 2 s",
    ]);
    expect(roster.get("ena0")).toBe(heir.frontend);
    expect(heir.mac).toBe(owner.mac);
  });

  it.each([
    [600, 299, 300],
    [Number.POSITIVE_INFINITY, 1e6, undefined],
  ])("is kept by an owner that may be silent for %d s", (deadAfter, kept, lost) => {
    const owner = join("ena0");
    owner.frontend.deadAfter = deadAfter;
    owner.frontend.silentSeconds = kept;
    expect(refusalOf("ena0").code).toBe("NAME_IN_USE");
    if (lost === undefined) return;
    owner.frontend.silentSeconds = lost;
    expect(join("ena0").name).toBe("ena0");
  });

  it("attack-S5 is taken from its owner by who says so", () => {
    const owner = join("ena0");
    join("ena0", { takeOver: true });
    expect(owner.frontend.closed).toEqual([
      [CloseCode.REPLACED, "another frontend took the name of ena0"],
    ]);
  });

  it("attack-S5 an uplink's name can't be taken", () => {
    uplinks.push("lab0");
    expect(refusalOf("lab0", { takeOver: true }).message).toContain("an uplink of this device");
    expect(refusalOf("lab0").message).toContain('"lab1"');
  });

  it("ux-P1 twenty that take any number are ena0 to ena19, with as many addresses", () => {
    const all = Array.from({ length: 20 }, () => join("ena0", { numbered: true }));
    expect(all.map(({ name }) => name)).toEqual(Array.from({ length: 20 }, (_, i) => `ena${i}`));
    expect(new Set(all.map(({ mac }) => mac)).size).toBe(20);
    expect(all.flatMap(({ frontend }) => frontend.closed)).toEqual([]);
    roster.remove(all[7]!.frontend);
    expect(join("ena0", { numbered: true }).name).toBe("ena7");
  });

  it.each([
    ["lab", "lab1"],
    ["r2.eth9", "r2.eth10"],
    ["x007", "x8"],
    ["7", "8"],
    ["a".repeat(63), `${"a".repeat(62)}1`],
    [`n${"9".repeat(20)}`, `n${"9".repeat(20)}1`],
  ])("of %s in use the next is %s", (name, next) => {
    join(name);
    expect(join(name, { numbered: true }).name).toBe(next);
  });
});

describe("an address in use", () => {
  const mac = "02:00:00:00:00:aa";

  it("attack-S5 is refused while its owner is alive, under any name, numbered or not", () => {
    join("a", { mac });
    expect(refusalOf("b", { mac }).message).toBe(`${mac} is the address of a`);
    expect(refusalOf("b", { mac, numbered: true }).code).toBe("MAC_IN_USE");
    expect(refusalOf("a", { mac, numbered: true }).code).toBe("MAC_IN_USE");
    expect(refusalOf("b", { mac, takeOver: true }).code).toBe("MAC_IN_USE");
  });

  it("is one of those that the rules of the segment allow, or the first of them", () => {
    const other = "02:00:00:00:00:0b";
    rules = { addresses: [mac, other] };
    expect(join("a").mac).toBe(mac);
    expect(join("b", { mac: other }).mac).toBe(other);
    const refusal = refusalOf("c", { mac: "02:00:00:00:00:0c" });
    expect([refusal.code, refusal.message]).toEqual([
      "MAC_DENIED",
      `"c" may not have the address 02:00:00:00:00:0c, but ${mac}, ${other}`,
    ]);
  });

  it("attack-S5 is free when its owner is silent, who then has neither", () => {
    const owner = join("a", { mac });
    owner.frontend.silentSeconds = 3;
    const heir = join("b", { mac });
    expect(heir.mac).toBe(mac);
    expect(owner.frontend.closed).toHaveLength(1);
    expect(roster.get("a")).toBeUndefined();
    expect(roster.all).toEqual([heir.frontend]);
  });

  it("attack-S5 on a full device the place of its silent owner is the newcomer's", () => {
    const owner = join("a", { mac });
    for (let n = 1; n < 64; n++) join(`ena${n}`);
    expect(refusalOf("b").code).toBe("NO_PLACE");
    expect(refusalOf("b", { mac }).code).toBe("MAC_IN_USE");
    owner.frontend.silentSeconds = 3;
    expect(refusalOf("b").code).toBe("NO_PLACE");
    expect(owner.frontend.closed).toEqual([]);
    const heir = join("b", { mac });
    expect([heir.name, heir.mac]).toEqual(["b", mac]);
    expect(owner.frontend.closed).toHaveLength(1);
    expect(roster.all.length).toBe(64);
    expect(refusalOf("c").code).toBe("NO_PLACE");
  });

  it("a computed address that somebody chose makes a numbered NIC go on to the next name", () => {
    const { mac: computed } = join("ena0");
    roster.remove(roster.get("ena0")!);
    join("thief", { mac: computed });
    expect(refusalOf("ena0").code).toBe("MAC_IN_USE");
    expect(join("ena0", { numbered: true }).name).toBe("ena1");
  });
});

it.each(["any", "all", "switch"])("attack-S14, ux-S8 no NIC may be called %s", (name) => {
  expect(() => join(name)).toThrow(/"\w+" is a word that captures use/);
  expect(join(`${name}0`).name).toBe(`${name}0`);
});

it("a numbered name that the client may not have is not given", () => {
  join("ena0");
  const hello = parseHello({
    ...{ version: 1, personality: "ena", name: "ena0", instance: "other", numbered: true },
  });
  const newcomer = new Frontend(() => {});
  expect(() => roster.admit(newcomer, hello, (name) => name === "ena0")).toThrow(
    /"ena0" is the name/,
  );
  expect(roster.get("ena1")).toBeUndefined();
  expect(roster.admit(newcomer, hello, (name) => name === "ena1").name).toBe("ena1");
});

describe("an address that the rules of a port name", () => {
  const ADDRESSES = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];
  beforeEach(() => {
    rules = { addresses: ADDRESSES };
  });

  it("is given, the first without a wish", () => {
    expect(join("pc1").mac).toBe(ADDRESSES[0]);
    expect(join("pc1", { mac: ADDRESSES[1]!, takeOver: true }).mac).toBe(ADDRESSES[1]);
  });

  it("is the only one: frames for another NIC's address would come here", () => {
    expect(refusalOf("pc1", { mac: "02:00:00:00:00:0c" })).toMatchObject({
      code: "MAC_DENIED",
      message: `"pc1" may not have the address 02:00:00:00:00:0c, but ${ADDRESSES.join(", ")}`,
    });
  });
});

describe("segments", () => {
  const switches = ["red", "blue"].map((name) => new Switch({ name, now: () => 0 }));
  let segments: Segments<Frontend>;
  const nicIn = (segment: string, name: string): Frontend => {
    const { nics } = segments.get(segment)!;
    const frontend = new Frontend((gone) => nics.remove(gone));
    const instance = `process ${++processes}`;
    nics.admit(frontend, parseHello({ version: 1, personality: "ena", name, instance }));
    return frontend;
  };
  beforeEach(() => {
    segments = new Segments<Frontend>(switches, 3);
  });

  it("share the places of the device", () => {
    nicIn("red", "a");
    nicIn("red", "b");
    nicIn("blue", "a");
    for (const segment of ["red", "blue"]) {
      expect(() => nicIn(segment, "c")).toThrow(
        `this device accepts 3 NICs, and has no place for another in segment ${segment}`,
      );
    }
    expect(segments.nicCount).toBe(3);
  });

  it("tell NICs of one name apart", () => {
    const [red, blue] = [nicIn("red", "a"), nicIn("blue", "a")];
    expect(segments.find("red/a", EVERYTHING)).toBe(red);
    expect(segments.find("blue/a", EVERYTHING)).toBe(blue);
    expect(segments.find("a", { sees: (name) => name === "blue" })).toBe(blue);
    expect(segments.find("red/a", { sees: (name) => name === "blue" })).toBe(
      'this device has no NIC "red/a"',
    );
  });
});
