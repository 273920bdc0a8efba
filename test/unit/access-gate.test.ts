/** The gate: who may ask for what, and until when. (fault-L1, L5, L10, L11) */
import { beforeEach, describe, expect, it } from "vitest";
import { type Caller, type Denial, Gate, Identity } from "../../device/access/gate.ts";
import { ANY_CLIENT, ANYBODY, NEEDS, ROLES } from "../../device/access/roles.ts";
import { type Client, hashOf, newToken } from "../../device/access/token.ts";

let now: number;
let gate: Gate;
const tokens = new Map<string, string>();

function client(id: string, more: Partial<Client> = {}): Client {
  const token = tokens.get(id) ?? newToken(id);
  tokens.set(id, token);
  return { id, hash: hashOf(token), roles: ["nic"], ...more };
}

const bearer = (token: string | undefined, address = "10.0.0.1"): Caller => ({
  headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  address,
});
const shown = (id: string): Caller => bearer(tokens.get(id));

function identity(path: string, caller: Caller): Identity {
  const found = gate.admit(path, caller);
  if (!(found instanceof Identity)) throw new Error(found.sentence);
  return found;
}

function denial(path: string, caller: Caller): Denial {
  const found = gate.admit(path, caller);
  if (found instanceof Identity) throw new Error(`${found.id} may`);
  return found;
}

beforeEach(() => {
  now = Date.UTC(2027, 0, 1);
  tokens.clear();
});

function open(clients: readonly Client[] | undefined, certificates = false): void {
  gate = new Gate({ clients, segments: ["lan0"], certificates, now: () => now });
}

it("without clients and certificates everybody may", () => {
  open(undefined);
  expect(gate.isOpen).toBe(true);
  for (const path of Object.keys(NEEDS))
    expect(identity(path, bearer(undefined)).id).toBeUndefined();
});

it("with a list of nobody, nobody may", () => {
  open([]);
  expect(denial("/status", bearer(undefined)).status).toMatch(/^401/);
});

describe("the table of roles", () => {
  const rows = Object.entries(NEEDS).flatMap(([path, need]) =>
    ROLES.map((role) => [path, need, role] as const),
  );
  it.each(rows)("fault-L5 %s needs %s; a client with %s", (path, need, role) => {
    open([client("a", { roles: [role] })]);
    const may = [ANYBODY, ANY_CLIENT, role].includes(need) || role === "admin";
    if (may) expect(identity(path, shown("a"))).toBeInstanceOf(Identity);
    else expect(denial(path, shown("a")).status).toMatch(/^403/);
    if (need !== ANYBODY) expect(denial(path, bearer(undefined)).status).toMatch(/^401/);
  });

  it.each(ROLES.filter((role) => role !== "admin"))(
    "a path without a row is not for %s",
    (role) => {
      open([client("a", { roles: [role] })]);
      for (const path of ["/", "/secret", "__proto__", "constructor", "toString"]) {
        expect(denial(path, shown("a")).status).toMatch(/^403/);
      }
    },
  );
});

it("a client of another segment has no rights", () => {
  open([
    client("a", { roles: ["admin"], segments: ["lan1", "lan2"] }),
    client("b", { segments: ["lan1", "lan0"] }),
  ]);
  expect(denial("/status", shown("a"))).toMatchObject({
    status: "403 Forbidden",
    sentence: "a has no rights on any segment of this device",
  });
  expect(identity("/nic", shown("b")).id).toBe("b");
  for (const [path, need] of Object.entries(NEEDS)) {
    if (need !== ANYBODY) expect(denial(path, shown("a")).status).toMatch(/^403/);
  }
});

describe("a client is not known", () => {
  const TOKEN = newToken("a");
  it.each<[string, string | undefined]>([
    ["nothing", undefined],
    ["another scheme", `Basic ${TOKEN}`],
    ["an empty token", "Bearer "],
    ["a token of another secret", `Bearer ${newToken("a")}`],
    ["a token of another id", `Bearer ${newToken("b")}`],
    ["the hash", `Bearer ${hashOf(TOKEN)}`],
    ["a token and more", `Bearer ${TOKEN} x`],
    ["a token cut short", `Bearer ${TOKEN.slice(0, -1)}`],
    ["a long text", `Bearer rw_a_${"x".repeat(100_000)}`],
    ["other letters", "Bearer rw_a_\u00e9"],
    ["an id of Object", `Bearer ${newToken("constructor")}`],
  ])("fault-L1 that shows %s", (_what, authorization) => {
    open([{ id: "a", hash: hashOf(TOKEN), roles: ["admin"] }]);
    const { status, sentence, headers } = denial("/status", {
      headers: authorization === undefined ? {} : { authorization },
      address: "10.0.0.1",
    });
    expect(status).toBe("401 Unauthorized");
    expect(headers).toEqual({ "www-authenticate": 'Bearer realm="ringwire"' });
    expect(sentence).not.toContain("rw_a");
  });

  it("fault-L1 whose time is over", () => {
    open([client("a", { expires: "2027-01-02" })]);
    expect(identity("/nic", shown("a")).id).toBe("a");
    now = Date.UTC(2027, 0, 2);
    expect(denial("/nic", shown("a"))).toMatchObject({
      status: "401 Unauthorized",
      sentence: "the token has expired",
    });
  });
});

describe("fault-L10 many refused tries of an address", () => {
  it("are not looked at any more, for a while; a known client still may", () => {
    open([client("a")]);
    const wrong = () => denial("/nic", bearer(newToken("a"))).status.slice(0, 3);
    const answers = Array.from({ length: 30 }, wrong);
    expect(answers).toEqual([...Array(20).fill("401"), ...Array(10).fill("429")]);
    expect(denial("/nic", bearer(newToken("a"))).headers).toEqual({ "retry-after": "10" });
    expect(identity("/nic", shown("a")).id).toBe("a");
    expect(denial("/nic", bearer(newToken("a"), "10.0.0.2")).status).toMatch(/^401/);
    now += 10_000;
    expect(wrong()).toBe("401");
  });

  it("of many addresses fill no memory", () => {
    open([client("a")]);
    for (let i = 0; i < 10_000; i++) denial("/nic", bearer(undefined, `10.1.${i >> 8}.${i & 255}`));
    // The oldest are forgotten, the newest are not.
    const tries = (address: string) =>
      Array.from({ length: 20 }, () => denial("/nic", bearer(undefined, address)).status).at(-1);
    expect(tries("10.1.0.0")).toMatch(/^401/);
    expect(tries(`10.1.${9999 >> 8}.${9999 & 255}`)).toMatch(/^429/);
  });
});

describe("fault-L11 what a client holds ends", () => {
  let ends: string[];
  beforeEach(() => {
    ends = [];
    open([client("a"), client("b", { expires: "2027-01-02" })]);
    for (const id of ["a", "b"]) identity("/nic", shown(id)).use((why) => void ends.push(why));
  });

  it("when it is removed, and only that of this client", () => {
    gate.renew([client("b", { expires: "2027-01-02" })]);
    expect(ends).toEqual(["a: it was revoked"]);
    expect(denial("/nic", shown("a")).status).toMatch(/^401/);
    expect(identity("/nic", shown("b")).id).toBe("b");
  });

  it.each<[string, Partial<Client>]>([
    ["roles", { roles: ["capture"] }],
    ["names", { names: ["a*"] }],
    ["secret", { hash: hashOf("other") }],
  ])("when its %s change", (_what, more) => {
    gate.renew([client("a", more), client("b", { expires: "2027-01-02" })]);
    expect(ends).toEqual(["a: the rights of this client changed"]);
  });

  it("when its time is over", () => {
    gate.tick();
    expect(ends).toEqual([]);
    now = Date.UTC(2027, 0, 2);
    gate.tick();
    expect(ends).toEqual(["b: its time is over"]);
  });

  it("not when the list is read again as it was", () => {
    gate.renew([client("b", { expires: "2027-01-02" }), client("a")]);
    expect(ends).toEqual([]);
  });

  it("but not what it has closed itself", () => {
    const forget = identity("/nic", shown("b")).use(() => void ends.push("closed"));
    expect(identity("/nic", shown("b")).uses).toBe(2);
    forget();
    gate.renew([client("a")]);
    expect(ends).toEqual(["b: it was revoked"]);
  });
});

describe("certificates", () => {
  const of = (certificate: string): Caller => ({ headers: {}, address: "::1", certificate });

  it("without a list let in NICs of their name", () => {
    open(undefined, true);
    const alice = identity("/nic", of("alice"));
    expect(["alice", "alice-1", "bob", "alicex"].map((name) => alice.mayHave(name))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(denial("/capture", of("alice")).status).toMatch(/^403/);
    expect(denial("/nic", bearer(undefined))).toMatchObject({
      status: "401 Unauthorized",
      sentence: "this device wants a token or a certificate",
    });
  });

  it.each(["*", "a*", "", "a b", "a/b", "é"])("of the name %j let nobody in", (name) => {
    open(undefined, true);
    expect(denial("/nic", of(name)).status).toMatch(/^401/);
  });

  it("with a list need an entry, whose rights count", () => {
    const op: Client = { id: "op", certificate: "operator", roles: ["admin"] };
    open([op], true);
    expect(identity("/capture", of("operator")).id).toBe("op");
    expect(denial("/nic", of("alice")).status).toMatch(/^401/);
  });

  it("do not help a wrong token", () => {
    open([{ id: "op", certificate: "operator", roles: ["admin"] }], true);
    const headers = { authorization: `Bearer ${newToken("op")}` };
    expect(denial("/status", { ...of("operator"), headers }).status).toMatch(/^401/);
  });
});

describe("fault-L2 a ticket", () => {
  const ORIGIN = "https://lab:7700";
  beforeEach(() => open([client("a", { roles: ["capture"] }), client("b")]));

  function ticket(path = "/capture", origin: string | undefined = ORIGIN): string {
    const made = gate.ticket(identity("/ticket", shown("a")), path, origin);
    if (typeof made !== "string") throw new Error(made.sentence);
    return made;
  }
  const inUrl = (text: string, origin: string | undefined = ORIGIN): Caller => ({
    headers: origin === undefined ? {} : { origin },
    address: "10.0.0.1",
    ticket: text,
  });
  const inCookie = (text: string): Caller => ({
    headers: { cookie: `theme=dark; ringwire-ticket=${text}; x=y` },
    address: "10.0.0.1",
  });

  it.each([
    ["the URL", inUrl],
    ["a cookie", inCookie],
  ])("in %s is good once, for who asked for it", (_where, shows) => {
    const made = ticket();
    expect(identity("/capture", shows(made)).id).toBe("a");
    expect(denial("/capture", shows(made))).toMatchObject({
      status: "401 Unauthorized",
      sentence: "the ticket is used, old or for another place",
    });
  });

  it.each<[string, (made: string) => Identity | Denial]>([
    ["on another path", (made) => gate.admit("/status", inUrl(made))],
    ["from another origin", (made) => gate.admit("/capture", inUrl(made, "https://evil"))],
    ["from no page at all", (made) => gate.admit("/capture", inUrl(made, "null"))],
  ])("%s is refused, and ends", (_what, use) => {
    const made = ticket();
    expect(use(made)).not.toBeInstanceOf(Identity);
    expect(denial("/capture", inUrl(made)).status).toMatch(/^401/);
  });

  it("is good for a minute", () => {
    const [one, other] = [ticket(), ticket()];
    now += 59_999;
    expect(identity("/capture", inUrl(one)).id).toBe("a");
    now += 1;
    expect(denial("/capture", inUrl(other)).status).toMatch(/^401/);
  });

  it("ends with its client", () => {
    const made = ticket();
    gate.tick();
    gate.renew([client("b")]);
    expect(denial("/capture", inUrl(made)).status).toMatch(/^401/);
  });

  it("is made only for what its client may, and by a client", () => {
    const a = identity("/ticket", shown("a"));
    expect(gate.ticket(a, "/metrics", ORIGIN)).toMatchObject({ status: "403 Forbidden" });
    expect(gate.ticket(a, "/secret", ORIGIN)).toMatchObject({ status: "403 Forbidden" });
    expect(denial("/ticket", bearer(undefined)).status).toMatch(/^401/);
  });

  it("is not looked at beside a token", () => {
    const made = ticket();
    const both = { ...shown("b"), ticket: made };
    expect(denial("/capture", both).status).toMatch(/^403/);
    expect(identity("/capture", inUrl(made)).id).toBe("a");
  });

  it("of a program is for no page of any origin", () => {
    const a = identity("/ticket", shown("a"));
    const [one, other] = [1, 2].map(() => gate.ticket(a, "/capture", undefined) as string);
    expect(denial("/capture", inUrl(one!, "https://evil")).status).toMatch(/^401/);
    const plain = { headers: {}, address: "10.0.0.1", ticket: other };
    expect(identity("/capture", plain).id).toBe("a");
  });

  it("of a client ends when it has asked for many more; those of others do not", () => {
    open([client("a", { roles: ["capture"] }), client("c", { roles: ["capture"] })]);
    const others = gate.ticket(identity("/ticket", shown("c")), "/capture", ORIGIN) as string;
    const all = Array.from({ length: 33 }, () => ticket());
    expect(denial("/capture", inUrl(all[0]!)).status).toMatch(/^401/);
    expect(identity("/capture", inUrl(all[1]!)).id).toBe("a");
    expect(identity("/capture", inUrl(all[32]!)).id).toBe("a");
    expect(identity("/capture", inUrl(others)).id).toBe("c");
  });
});
