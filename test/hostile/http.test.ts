/** Hostile HTTP clients: they ask too much, too often, too slowly, or for another host. */
import { hostname } from "node:os";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { RawSocket, upgradeRequest } from "../support/raw-socket.ts";

/** How far a device's memory may grow under these attacks. */
const GROWTH_BYTES = 64 << 20;

let stage: HostileStage;
let rssBytes: number;
let open: RawSocket[] = [];

beforeAll(async () => {
  stage = await HostileStage.openMixed(
    "--allow-host",
    "lab.example",
    "--allow-host",
    "Other.Example",
  );
  rssBytes = stage.device.rssBytes();
});

afterEach(() => {
  for (const raw of open) raw.socket.destroy();
  open = [];
});

afterAll(async () => {
  await stage.close();
});

async function connected(): Promise<RawSocket> {
  const raw = await RawSocket.connect(stage.port);
  open.push(raw);
  return raw;
}

/** All bytes that the device answers to `request` until it closes the connection. */
async function answerTo(request: string): Promise<string> {
  const raw = await connected();
  raw.write(request);
  await raw.ended();
  return raw.received.toString("latin1");
}

const get = (path: string, lines: readonly string[] = ["Host: 127.0.0.1"]): string =>
  [`GET ${path} HTTP/1.1`, ...lines, "", ""].join("\r\n");

/** Honest users are still served: /livez and /status answer, a new NIC joins and works. */
async function letsIn(): Promise<void> {
  expect(await answerTo(get("/livez"))).toMatch(/^HTTP\/1.1 200 /);
  expect(await answerTo(get("/status"))).toMatch(/^HTTP\/1.1 200 /);
  const guest = await RawFrontend.join(stage.port, stage.name());
  expect(await guest.survived()).toBe(true);
  await guest.end();
}

const grewLittle = (): void => {
  expect(stage.device.rssBytes() - rssBytes).toBeLessThan(GROWTH_BYTES);
};

describe("one connection, many requests", () => {
  afterAll(() => stage.unharmed());

  it.each(["/status", "/metrics", "/livez", "/addresses", "/nope"])(
    "attack-S1: 70 KB of pipelined GET %s are one request, and one answer",
    async (path) => {
      const request = get(path);
      const raw = await connected();
      raw.write(request.repeat(Math.ceil(70_000 / request.length)));
      await letsIn();
      await raw.ended();
      const answer = raw.received.toString("latin1");
      expect(answer.match(/^HTTP\/1.1 /gm)).toHaveLength(1);
      expect(answer.toLowerCase()).toContain("connection: close");
      grewLittle();
    },
  );

  it("attack-S1: what stands behind a request is not looked at", async () => {
    // The second request waits for a snapshot, so the bytes behind it arrive long before its
    // answer.
    const first = answerTo(get("/status"));
    expect(await answerTo(`${get("/status")}\x00 no request at all\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 200 /,
    );
    expect(await first).toMatch(/^HTTP\/1.1 200 /);
  });

  it("attack-S1: nor does it help to be slow, or to send them behind the answer", async () => {
    const raw = await connected();
    const request = get("/status");
    for (const byte of request + request) {
      raw.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await raw.ended();
    expect(raw.received.toString("latin1").match(/^HTTP\/1.1 /gm)).toHaveLength(1);
  });

  it("attack-S1: requests behind an upgrade, a POST and a bad request are no requests", async () => {
    const body = '{"nic":"nobody","to":"ws://127.0.0.1:1"}';
    const post = `POST /migrate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const many = get("/status").repeat(1500);
    for (const [first, status] of [
      [post, 404],
      [get("/nic", ["Host: 127.0.0.1", "Upgrade: websocket", "Connection: upgrade"]), 400],
      ["G\x01T / HTTP/1.1\r\n\r\n", 400],
    ] as const) {
      const answer = await answerTo(first + many);
      expect(answer.match(/^HTTP\/1.1 \d+/gm)).toEqual([`HTTP/1.1 ${status}`]);
    }
    await letsIn();
    grewLittle();
  });

  it("attack-S1: a connection that sends without end is cut", async () => {
    const raw = await connected();
    raw.socket.pause();
    raw.write(get("/status"));
    const many = Buffer.from(get("/status").repeat(2000));
    await eventually("the cut", () => {
      raw.write(many);
      raw.socket.resume();
      return raw.over || undefined;
    });
    grewLittle();
  });

  it("attack-S1: two hundred who ask at once get one snapshot, and each an answer", async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, () => answerTo(get("/status"))));
    const statuses = answers.map((answer) => answer.slice(0, 12));
    expect(new Set(statuses)).toEqual(new Set(["HTTP/1.1 200"]));
    const bodies = answers.map((answer) => answer.slice(answer.indexOf("\r\n\r\n")));
    expect(new Set(bodies).size).toBeLessThan(20);
    await letsIn();
  });

  it("attack-S1: answers that nobody reads hold no memory, and their places are bounded", async () => {
    for (let i = 0; i < 400; i++) {
      const raw = await connected();
      raw.socket.pause();
      raw.write(get(i % 2 === 0 ? "/status" : "/metrics"));
    }
    await letsIn();
    grewLittle();
  });
});

describe("connections that keep a place", () => {
  afterAll(() => stage.unharmed());

  const idle = async (count: number, first: (i: number) => string): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const raw = await connected();
      raw.write(first(i));
    }
  };

  it.each<[string, (i: number) => string]>([
    ["that say nothing", () => ""],
    ["with half a request", () => "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n"],
    ["whose first request is answered", () => get("/livez")],
    ["with a body that never comes", () => SLOW_BODY],
    ["of all these kinds", (i) => ["", "G", get("/livez"), SLOW_BODY][i % 4]!],
  ])("attack-S3: 1,100 connections %s keep nobody out", async (_kind, first) => {
    await idle(1100, first);
    await letsIn();
    grewLittle();
    await stage.neighbour.complaints().then((wrong) => expect(wrong).toEqual([]));
  });

  it("attack-S3: 1,100 upgraded connections without hello keep nobody out", async () => {
    await idle(1100, () => upgradeRequest(stage.port));
    await letsIn();
  });

  it("attack-S3: who loses a place is told so", async () => {
    const first = await connected();
    first.write("GET ");
    await idle(1100, () => "");
    await first.ended();
    const answer = first.received.toString();
    expect(answer).toMatch(/^HTTP\/1.1 503 /);
    expect(answer).toContain("Retry-After: 1");
    expect(answer).toContain("the device has no place for another connection");
    const { http } = await stage.status();
    expect(http.refused["evicted"]).toBeGreaterThan(0);
  });

  it("attack-S3: captures and pages that wait are bounded by address; /livez is not", async () => {
    // Sixteen captures run; the others are refused at once.
    await idle(40, () => get("/capture?filter=ether%20proto%200x1234"));
    await letsIn();
    // Under so many requests the device refuses some, but always answers /livez.
    const statuses = Promise.all(Array.from({ length: 600 }, () => answerTo(get("/status"))));
    expect(await answerTo(get("/livez"))).toMatch(/^HTTP\/1.1 200 /);
    expect(await answerTo(get("/readyz"))).toMatch(/^HTTP\/1.1 200 /);
    const refused = (await statuses).filter((answer) => !answer.startsWith("HTTP/1.1 200"));
    const others = refused.filter(
      (answer) =>
        !answer.startsWith("HTTP/1.1 503") ||
        !answer.toLowerCase().includes("retry-after: 1") ||
        !answer.includes("the device has no place for another connection"),
    );
    expect(others).toEqual([]);
  });
});

const SLOW_BODY =
  "POST /migrate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";

describe("host names that lead here", () => {
  afterAll(() => stage.unharmed());

  const pages = [
    "/status",
    "/metrics",
    "/livez",
    "/readyz",
    "/capture",
    "/events",
    "/addresses",
    "/nope",
  ];

  it.each(pages)("attack-S8: %s under a name of somebody else is misdirected", async (path) => {
    const answer = await answerTo(get(path, ["Host: evil.example:7700"]));
    expect(answer).toMatch(/^HTTP\/1.1 421 /);
    expect(answer).toContain("--allow-host evil.example");
  });

  it.each([
    "localhost",
    "LocalHost.:99",
    "ring.localhost:7700",
    "10.1.2.3",
    "[::1]:7700",
    "lab.example",
    "other.example.:80",
    hostname(),
  ])("fault-L3, attack-S8: the host %s is served", async (host) => {
    expect(await answerTo(get("/livez", [`Host: ${host}`]))).toMatch(/^HTTP\/1.1 200 /);
  });

  it.each<[string, string[]]>([
    ["no Host", []],
    ["two Hosts", ["Host: localhost", "Host: localhost"]],
    ["two Hosts far apart", ["Host: localhost", ...Array(2100).fill("a: b"), "host: evil.example"]],
    ["two Hosts in one line", ["Host: localhost, evil.example"]],
    ["an empty Host", ["Host:"]],
    ["a user name in Host", ["Host: a@localhost"]],
  ])("attack-S8: a request with %s is refused, and so is an upgrade", async (_what, lines) => {
    expect(await answerTo(get("/status", lines))).toMatch(/^HTTP\/1.1 400 /);
    const upgrade = upgradeRequest(stage.port, { Host: "" }).replace(
      "\r\n",
      `\r\n${lines.map((line) => `${line}\r\n`).join("")}`,
    );
    expect(await answerTo(upgrade)).toMatch(/^HTTP\/1.1 400 /);
  });

  it("attack-S8: an upgrade without Origin is a program's, whatever the name", async () => {
    const raw = await RawSocket.upgraded(stage.port, { Host: "evil.example" });
    open.push(raw);
  });

  it.each<[string, Record<string, string>, number]>([
    ["a rebound name", { Host: "evil.example", Origin: "http://evil.example" }, 421],
    ["another origin", { Origin: "http://evil.example" }, 403],
    ["a listed name", { Host: "lab.example", Origin: "https://lab.example" }, 101],
    ["another port", { Host: "localhost:7700", Origin: "http://localhost:3000" }, 403],
    ["another site that hides its origin", { "Sec-Fetch-Site": "cross-site" }, 403],
  ])("attack-S8, fault-L3: an upgrade from a page of %s", async (_what, lines, status) => {
    const raw = await connected();
    raw.write(upgradeRequest(stage.port, lines));
    expect(await raw.response()).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it.each(["/capture", "/status", "/metrics", "/addresses", "/livez"])(
    "attack-S8: %s is not for other sites",
    async (path) => {
      for (const line of [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: http://evil.example",
        "Origin: null",
      ]) {
        expect(await answerTo(get(path, ["Host: localhost", line]))).toMatch(/^HTTP\/1.1 403 /);
      }
    },
  );

  it.each(["none", "same-origin"])("attack-S8: Sec-Fetch-Site: %s is welcome", async (site) => {
    const lines = ["Host: localhost:7700", `Sec-Fetch-Site: ${site}`];
    expect(await answerTo(get("/status", lines))).toMatch(/^HTTP\/1.1 200 /);
    const own = [...lines, "Origin: http://localhost:7700"];
    expect(await answerTo(get("/status", own))).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe("POST /migrate", () => {
  afterAll(() => stage.unharmed());

  const body = '{"nic":"pair-a","to":"ws://127.0.0.1:1"}';
  const post = (lines: readonly string[], text = body): string =>
    [
      "POST /migrate HTTP/1.1",
      ...["Host: localhost", ...lines, `Content-Length: ${text.length}`],
      "",
      text,
    ].join("\r\n");
  const JSON_LINE = "Content-Type: application/json";

  it.each<[string, string[]]>([
    ["a form", ["Content-Type: application/x-www-form-urlencoded"]],
    ["a form of parts", ["Content-Type: multipart/form-data; boundary=x"]],
    ["plain text", ["Content-Type: text/plain"]],
    ["no type", []],
    ["a type that begins like JSON", ["Content-Type: application/json-seq"]],
    ["JSON in another charset", ["Content-Type: application/json; charset=utf-7"]],
    ["two types", ["Content-Type: text/plain, application/json"]],
    ["JSON with a foreign Origin", [JSON_LINE, "Origin: http://evil.example"]],
    ["JSON with its own Origin", [JSON_LINE, "Origin: http://localhost"]],
    ["JSON with Origin null", [JSON_LINE, "Origin: null"]],
    ["JSON from another site", [JSON_LINE, "Sec-Fetch-Site: cross-site"]],
  ])("fault-L7: %s moves nobody", async (_what, lines) => {
    expect(await answerTo(post(lines))).toMatch(/^HTTP\/1.1 403 /);
    expect((await stage.status()).nics.map(({ name }) => name)).toContain("pair-a");
  });

  it("fault-L7: nor does a form's preflight, a GET, or a body that is none", async () => {
    const preflight = [
      "OPTIONS /migrate HTTP/1.1",
      ...["Host: localhost", "Origin: http://evil.example", "Access-Control-Request-Method: POST"],
    ];
    const answer = await answerTo([...preflight, "", ""].join("\r\n"));
    expect(answer).toMatch(/^HTTP\/1.1 4\d\d /);
    expect(answer.toLowerCase()).not.toContain("access-control");
    expect(await answerTo(get("/migrate?nic=pair-a&to=ws://127.0.0.1:1"))).toMatch(/ 405 /);
    expect(await answerTo(post([JSON_LINE], "{}"))).toMatch(/ 400 /);
    expect(await answerTo(post([JSON_LINE], "x".repeat(5000)))).toMatch(/ 413 /);
  });

  it("fault-L7: a program with JSON is heard, with the charset named or not", async () => {
    for (const type of [JSON_LINE, `${JSON_LINE}; charset=utf-8`, `${JSON_LINE};charset="UTF-8"`]) {
      const answer = await answerTo(post([type], '{"nic":"nobody","to":"ws://127.0.0.1:1"}'));
      expect(answer).toContain('this device has no NIC \\"nobody\\"');
    }
  });
});

describe("refusals", () => {
  afterAll(() => stage.unharmed());

  it.each<[string, () => string, number, RegExp]>([
    ["headers of 17 KB", () => get("/", [`a: ${"b".repeat(17_000)}`]), 431, /16384 bytes/],
    ["headers of 200 KB", () => get("/", [`a: ${"b".repeat(200_000)}`]), 431, /16384 bytes/],
    ["a path of 20 KB", () => get(`/${"a".repeat(20_000)}`), 431, /16384 bytes/],
    ["CONNECT", () => "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405, /no proxy/],
    ["TLS", () => "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, /no HTTP request: \w/],
    ["the preface of HTTP/2", () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, /HTTP\/1.1/],
    ["a bare line feed", () => "GET / HTTP/1.1\nHost: a\n\n", 400, /no HTTP request: \w/],
    ["an unknown method", () => "FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 400, /no HTTP request: \w/],
    ["OPTIONS *", () => "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, /\/status/],
    ["an expectation", () => get("/livez", ["Host: localhost", "Expect: x"]), 417, /100-continue/],
    ["an unknown page", () => get("/nope"), 404, /"\/nope".*\/status/],
    ["two slashes", () => get("//status"), 404, /"\/\/status".*\/status/],
    ["a percent sign", () => get("/%zz"), 400, /percent sign/],
    ["another scheme", () => get("ftp://localhost/status"), 400, /http URL/],
  ])("attack-S16: %s gets an answer that says why", async (_what, request, status, says) => {
    const answer = await answerTo(request());
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(answer.slice(answer.indexOf("\r\n\r\n"))).toMatch(says);
    expect(answer.match(/^HTTP\/1.1 /gm)).toHaveLength(1);
  });

  it.each([
    ["GET http://127.0.0.1:1/livez HTTP/1.1", "evil.example", 200],
    ["GET http://evil.example/livez HTTP/1.1", "127.0.0.1", 421],
    ["GET HTTP://localhost/%6civez HTTP/1.1", "evil.example", 200],
    ["GET /l%69vez HTTP/1.1", "localhost", 200],
  ])("case-smaller: %s (Host: %s)", async (line, host, status) => {
    const answer = await answerTo(`${line}\r\nHost: ${host}\r\n\r\n`);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it.each(["h2c", "TLS/1.0", "websocket2"])(
    "attack-S16: an upgrade to %s is ignored, and the page is served",
    async (protocol) => {
      const lines = ["Host: localhost", `Upgrade: ${protocol}`, "Connection: Upgrade"];
      expect(await answerTo(get("/livez", lines))).toMatch(/^HTTP\/1.1 200 /);
      expect(await answerTo(get("/status", lines) + get("/status"))).toMatch(/^HTTP\/1.1 200 /);
      expect(await answerTo(get("/nic", lines))).toMatch(/^HTTP\/1.1 426 /);
    },
  );

  it("attack-S16: a request that is not whole after 10 s is told so", async () => {
    const [head, body, silent] = [await connected(), await connected(), await connected()];
    head.write("GET /status HTTP/1.1\r\n");
    body.write(SLOW_BODY);
    await Promise.all([head, body, silent].map((raw) => raw.ended()));
    for (const raw of [head, body, silent]) {
      expect(raw.received.toString()).toMatch(/^HTTP\/1.1 408 .*not whole within 10 s/s);
    }
  });

  it("attack-S16: status and metrics count refusals by reason", async () => {
    const { http } = await stage.status();
    for (const reason of [
      "malformed",
      "head_too_large",
      "host",
      "origin",
      "timeout",
      "pipelined",
    ]) {
      expect(http.refused[reason], reason).toBeGreaterThan(0);
    }
  });
});
