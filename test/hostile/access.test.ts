/** A locked device: TLS, tokens and certificates, from strangers. (fault-L1, L4, L5, L8, L11, L12) */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ANY_CLIENT, ANYBODY, NEEDS, ROLES, type Role } from "../../device/access/roles.ts";
import { SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { LabFiles } from "../support/lab-files.ts";
import { eventually } from "../support/process.ts";

const files = new LabFiles();
const tokens = new Map<Role, string>();
let device: DeviceProcess;
let old: string;

beforeAll(async () => {
  await files.deviceCertificates();
  await files.certificate("alice");
  for (const role of ROLES) tokens.set(role, await files.token(role, "--role", role));
  await files.token("op", "--certificate", "op", "--role", "admin");
  await files.certificate("op");
  old = await files.token("old", "--role", "admin", "--expires", "2020-01-01");
  const args = [...files.deviceTls, ...files.ca, "--tokens", files.tokens];
  device = await DeviceProcess.start(...args);
});

afterAll(async () => {
  const { exit } = device.child;
  await device.stop();
  files[Symbol.dispose]();
  expect(exit).toBeUndefined();
  // No secret is in what the device wrote.
  for (const token of [...tokens.values(), old]) expect(device.child.said()).not.toContain(token);
});

interface Asks {
  readonly token?: string | undefined;
  readonly certificate?: string;
  readonly upgrade?: boolean;
  readonly method?: string;
  readonly body?: string;
  readonly role?: Role;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The status of an answer, its headers and its text; a stream is left behind its head. */
function ask(path: string, asks: Asks = {}) {
  const { token, certificate, upgrade = false, method = "GET", body } = asks;
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(upgrade
      ? {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
          "sec-websocket-protocol": SUBPROTOCOL,
        }
      : {}),
    ...asks.headers,
  };
  const shown =
    certificate === undefined
      ? {}
      : { cert: files.text(`${certificate}.pem`), key: files.text(`${certificate}-key.pem`) };
  return new Promise<{ status: number; text: string; challenge?: string; cookie?: string }>(
    (resolve, reject) => {
      const asked = requestHttps(
        {
          ...{ host: "127.0.0.1", port: device.port, path, method, headers, agent: false },
          ...{ ca: files.text("ca.pem"), ...shown },
        },
        (answer) => {
          const { statusCode: status = 0 } = answer;
          const challenge = answer.headers["www-authenticate"] ?? "";
          const cookie = answer.headers["set-cookie"]?.[0] ?? "";
          let text = "";
          if (/^\/(?:capture|events)/.test(path) && status === 200) {
            answer.destroy();
            resolve({ status, text, challenge });
          }
          answer.setEncoding("utf8");
          answer.on("data", (part: string) => {
            text += part;
          });
          answer.on("error", () => {});
          answer.on("end", () => resolve({ status, text, challenge, cookie }));
        },
      );
      asked.on("upgrade", (answer, socket) => {
        socket.destroy();
        resolve({ status: answer.statusCode ?? 0, text: "" });
      });
      asked.on("error", reject);
      asked.end(body);
    },
  );
}

/** Paths that are no pages. */
const UPGRADES: ReadonlySet<string> = new Set(["/nic", "/ethernet"]);

describe("every path", () => {
  const rows = Object.entries(NEEDS).flatMap(([path, need]) =>
    ROLES.map((role) => [path, need, role] as const),
  );
  it.each(rows)("fault-L5 %s needs %s: with the role %s", async (path, need, role) => {
    const upgrade = UPGRADES.has(path);
    const isPosted = path === "/migrate" || path === "/ticket";
    const method = isPosted ? "POST" : "GET";
    const { status } = await ask(path, { token: tokens.get(role), upgrade, method });
    const may = [ANYBODY, ANY_CLIENT, role].includes(need) || role === "admin";
    if (!may) expect(status).toBe(403);
    else if (upgrade) expect(status).toBe(101);
    // A POST without a body is refused by the page itself: it got through.
    else if (isPosted) expect(status).toBe(403);
    else expect(status).toBe(200);
  });

  it.each(Object.keys(NEEDS))("fault-L1 %s: from nobody, and with wrong tokens", async (path) => {
    const upgrade = UPGRADES.has(path);
    const admin = tokens.get("admin")!;
    const open = NEEDS[path] === ANYBODY;
    for (const token of [undefined, `${admin}x`, admin.slice(0, -1), old, "x"]) {
      const { status, challenge } = await ask(path, { token, upgrade });
      // After twenty refused tries of this address further ones have another answer.
      expect(open ? [200] : [401, 429]).toContain(status);
      if (status === 401) expect(challenge).toBe('Bearer realm="ringwire"');
    }
  });

  it("a refusal of /migrate by the page is another than by the gate", async () => {
    const asks = { method: "POST", headers: { "content-type": "text/plain" } };
    const by = (role: Role) => ask("/migrate", { ...asks, token: tokens.get(role) });
    expect((await by("control")).text).toContain("a body of application/json");
    expect((await by("nic")).text).toContain("it needs the role control");
  });

  it("fault-L4 a token in the URL is none", async () => {
    const path = `/status?token=${tokens.get("admin")}&access_token=${tokens.get("admin")}`;
    expect([401, 429]).toContain((await ask(path)).status);
  });
});

describe("a ticket", () => {
  /** What POST /ticket answers to a page of this device. */
  async function ticket(path: string, more: Asks = {}) {
    const origin = `https://127.0.0.1:${device.port}`;
    const headers = { "content-type": "application/json", origin, ...more.headers };
    const asks = { token: tokens.get("admin"), method: "POST", body: JSON.stringify({ path }) };
    return await ask("/ticket", { ...asks, ...more, headers });
  }
  const textOf = ({ text }: { text: string }): string => JSON.parse(text).ticket as string;

  it("fault-L2 opens one page as a cookie, once", async () => {
    const made = await ticket("/status");
    expect(made.cookie).toMatch(
      /^ringwire-ticket=[\w-]{32}; Path=\/status; Max-Age=60; HttpOnly; SameSite=Strict; Secure$/,
    );
    const headers = { cookie: made.cookie!.split(";")[0]! };
    expect((await ask("/status", { headers })).status).toBe(200);
    expect([401, 429]).toContain((await ask("/status", { headers })).status);
  });

  it("fault-L2, L3 opens one upgrade in its URL, from the origin that asked", async () => {
    const origin = `https://127.0.0.1:${device.port}`;
    const upgrade = async (text: string) =>
      await ask(`/nic?ticket=${text}`, { upgrade: true, headers: { origin } });
    const made = textOf(await ticket("/nic"));
    expect((await upgrade(made)).status).toBe(101);
    expect([401, 429]).toContain((await upgrade(made)).status);
    const foreign = await ticket("/nic", { headers: { origin: "https://evil" } });
    expect(foreign.status).toBe(403);
    const page = textOf(await ticket("/status"));
    expect([401, 429]).toContain((await upgrade(page)).status);
  });

  it.each<[number, string, Asks]>([
    [403, "a form", { headers: { "content-type": "application/x-www-form-urlencoded" } }],
    [400, "no path", { body: "{}" }],
    [400, "a path of another site", { body: '{"path":"//evil/x"}' }],
    [400, "a path with a line break", { body: '{"path":"/a\\r\\nSet-Cookie: x"}' }],
    [413, "a long body", { body: `{"path":"/${"x".repeat(5000)}"}` }],
    [405, "GET", { method: "GET" }],
    [403, "a path that the client may not ask", { body: '{"path":"/metrics"}', role: "capture" }],
  ])("is refused with %i for %s", async (status, _what, { role, ...more }) => {
    const token = role === undefined ? {} : { token: tokens.get(role) };
    expect((await ticket("/status", { ...more, ...token })).status).toBe(status);
  });
});

describe("certificates", () => {
  it("without an entry in the list let nobody in", async () => {
    expect([401, 429]).toContain((await ask("/status", { certificate: "alice" })).status);
  });

  it("fault-L8 of another issuer are none", async () => {
    using others = new LabFiles();
    await others.certificate("ca");
    await others.certificate("op");
    expect((await ask("/status", { certificate: "op" })).status).toBe(200);
    const answer = await new Promise<number>((resolve, reject) => {
      const asked = requestHttps(
        {
          ...{ host: "127.0.0.1", port: device.port, path: "/status", agent: false },
          ca: files.text("ca.pem"),
          ...{ cert: others.text("op.pem"), key: others.text("op-key.pem") },
        },
        ({ statusCode = 0 }) => resolve(statusCode),
      );
      asked.on("error", reject);
      asked.end();
    });
    expect([401, 429]).toContain(answer);
  });
});

describe("TLS", () => {
  const secure = (options: object): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connectTls(
        { host: "127.0.0.1", port: device.port, ca: files.text("ca.pem"), ...options },
        () => resolve(socket),
      );
      socket.on("error", reject);
    });

  it.each(["TLSv1", "TLSv1.1"] as const)("fault-L8 %s is refused", async (version) => {
    await expect(
      secure({ minVersion: version, maxVersion: version, ciphers: "DEFAULT@SECLEVEL=0" }),
    ).rejects.toThrow();
  });

  it.each(["TLSv1.2", "TLSv1.3"] as const)("%s is spoken", async (version) => {
    const socket = await secure({ minVersion: version, maxVersion: version });
    expect(socket.getProtocol()).toBe(version);
    socket.destroy();
  });

  it("fault-L8 plain HTTP has no answer, and is counted", async () => {
    const ended = await new Promise<string>((resolve) => {
      const asked = requestHttp(
        { host: "127.0.0.1", port: device.port, path: "/livez", agent: false },
        ({ statusCode }) => resolve(String(statusCode)),
      );
      asked.on("error", ({ message }) => resolve(message));
      asked.end();
    });
    expect(ended).toMatch(/socket hang up|ECONNRESET/);
    const { text } = await ask("/status", { token: tokens.get("inspect") });
    expect(JSON.parse(text).http.refused.tls).toBeGreaterThan(0);
  });

  it("fault-L12 connections without a handshake use places, and go with their clients", async () => {
    const places = async (): Promise<number> => {
      const { text } = await ask("/status", { token: tokens.get("inspect") });
      return JSON.parse(text).http.requests as number;
    };
    const sockets = Array.from({ length: 100 }, () =>
      connectTcp({ host: "127.0.0.1", port: device.port }).on("error", () => {}),
    );
    await eventually("100 handshakes", async () => ((await places()) >= 100 ? true : undefined));
    for (const socket of sockets) socket.resetAndDestroy();
    await eventually("no handshake", async () => ((await places()) < 10 ? true : undefined));
  });

  it.each(["random bytes", "a hello cut short"])("fault-L8 %s end a connection", async (what) => {
    const bytes =
      what === "random bytes"
        ? Buffer.from("ff".repeat(600), "hex")
        : Buffer.from("1603010200010001fc0303", "hex");
    const socket = connectTcp({ host: "127.0.0.1", port: device.port });
    socket.on("error", () => {});
    socket.write(bytes);
    if (what === "random bytes") await new Promise((resolve) => socket.on("close", resolve));
    else socket.end();
    expect((await ask("/livez")).status).toBe(200);
  });
});

it("fault-L10, L12 many refused tries leave nothing behind", async () => {
  const before = device.rssBytes();
  let refused = 0;
  const tries = async (): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      const { status } = await ask("/nic", { token: `rw_admin_${i}`, upgrade: true });
      if (status === 401 || status === 429) refused++;
    }
  };
  const WORKERS = 8;
  await Promise.all(Array.from({ length: WORKERS }, tries));
  expect(refused).toBe(WORKERS * 25);
  expect(device.rssBytes() - before).toBeLessThan(64 << 20);
  const { text } = await ask("/status", { token: tokens.get("admin") });
  const { nics, http } = JSON.parse(text);
  expect(nics).toEqual([]);
  expect(http.refused.unknown_client).toBeGreaterThanOrEqual(refused);
  // One of them in a minute is a warning.
  const warnings = device.child.stderr.match(/warn +refused a connection: .*token/g) ?? [];
  expect(warnings.length).toBeGreaterThan(0);
  expect(warnings.length).toBeLessThan(10);
});

/** A capture of a client, and its end. */
const open = (token: string): Promise<{ ended: Promise<void>; leave: () => void }> =>
  new Promise((resolve, reject) => {
    const asked = requestHttps(
      {
        ...{ host: "127.0.0.1", port: device.port, path: "/capture", agent: false },
        ...{ ca: files.text("ca.pem"), headers: { authorization: `Bearer ${token}` } },
      },
      (answer) => {
        if (answer.statusCode !== 200) {
          answer.destroy();
          reject(new Error(`HTTP ${answer.statusCode}`));
          return;
        }
        answer.resume();
        answer.on("error", () => {});
        const ended = new Promise<void>((left) => answer.on("close", left));
        resolve({ ended, leave: () => answer.destroy() });
      },
    );
    asked.on("error", reject);
    asked.end();
  });

it("fault-L1 a client whose time ends loses its capture", async () => {
  const until = new Date(Date.now() + 4000).toISOString();
  const brief = await files.token("brief", "--role", "capture", "--expires", until);
  const theirs = await eventually("the new token is known", () =>
    open(brief).catch(() => undefined),
  );
  await theirs.ended;
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(until));
  await expect(open(brief)).rejects.toThrow(/HTTP (401|429)/);
});

it("fault-L11 a revoked client loses its capture, and no other", async () => {
  const watcher = await files.token("watcher", "--role", "capture");
  const theirs = await eventually("the new token is known", () =>
    open(watcher).catch(() => undefined),
  );
  const other = await open(tokens.get("capture")!);
  let otherEnded = false;
  void other.ended.then(() => {
    otherEnded = true;
  });
  await files.revoke("watcher");
  await theirs.ended;
  expect(otherEnded).toBe(false);
  await expect(open(watcher)).rejects.toThrow(/HTTP (401|429)/);
  other.leave();
});
