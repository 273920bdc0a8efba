/**
 * Every way in which a command ends early: its exit code, and one sentence that says what to do.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { runInside } from "../support/inside.ts";
import { type Child, runRingwire, startRingwire } from "../support/process.ts";
import { packBatch } from "../support/raw-frontend.ts";

const servers: (Server | HttpServer)[] = [];
const folder = mkdtempSync(join(tmpdir(), "ringwire-cli-"));

async function listening<S extends Server | HttpServer>(server: S): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/**
 * A WebSocket server that answers the first message with one batch, or closes without an answer.
 */
async function webSocketServer(protocol: string, answer?: readonly unknown[]): Promise<number> {
  const http = createHttpServer();
  const wss = new WebSocketServer({ server: http, handleProtocols: () => protocol });
  wss.on("connection", (ws) => {
    ws.on("message", () => {
      if (answer !== undefined) {
        ws.send(packBatch([answer]));
      }
      ws.close(answer === undefined ? CloseCode.NORMAL : CloseCode.REFUSED, "");
    });
  });
  return await listening(http);
}

let device: Child;
let devicePort: number;
/** Ports by the kind of server that listens there. */
const at: Record<string, number> = {};

beforeAll(async () => {
  device = startRingwire(["device", "--listen", "127.0.0.1:0", "--json"]);
  ({ port: devicePort } = await device.waitForJson<{ port: number }>(
    (line) => line.event === "listening",
  ));
  at.device = devicePort;
  const gone = createServer();
  at.nobody = await listening(gone);
  await new Promise((resolve) => gone.close(resolve));
  at.hangsUp = await listening(createServer((socket) => socket.end()));
  at.speaksElse = await listening(
    createServer((socket) => {
      socket.on("error", () => {});
      socket.end("220 mail.example ESMTP\r\n");
    }),
  );
  at.web = await listening(createHttpServer((_request, response) => response.end("<p>hello</p>")));
  at.missing = await listening(
    createHttpServer((_request, response) => {
      response.statusCode = 404;
      response.end("no such page");
    }),
  );
  at.json = await listening(createHttpServer((_request, response) => response.end('{"ok":true}')));
  at.otherSocket = await webSocketServer("chat");
  at.silentDevice = await webSocketServer(SUBPROTOCOL);
  at.newer = await webSocketServer(SUBPROTOCOL, [
    Op.REFUSE,
    "VERSION",
    "this device speaks version 9 of the protocol, the frontend version 1",
  ]);
  at.nameTaken = await webSocketServer(SUBPROTOCOL, [
    Op.REFUSE,
    "NAME_IN_USE",
    '"ena0" is the name of an uplink of this device',
  ]);
  writeFileSync(join(folder, "broken.json"), "{");
  writeFileSync(join(folder, "unknown.json"), '{"device": {"port": 7700}}');
  writeFileSync(join(folder, "section.json"), '{"devise": {"queues": 2}}');
  writeFileSync(join(folder, "shape.json"), '{"device": 7}');
  writeFileSync(join(folder, "queues.json"), '{"device": {"queues": 0}}');
});

afterAll(async () => {
  await device.stop();
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

interface Row {
  readonly args: string;
  readonly code: number;
  readonly says: RegExp;
  readonly env?: Readonly<Record<string, string>>;
}

/** NAME@ stands for the address of the server with that name, FOLDER for the test's files. */
const fill = (args: string): string[] =>
  args
    .replaceAll(/(\w+)@(?=[ /]|$)/g, (_all, name: string) => `127.0.0.1:${at[name]}`)
    .replaceAll("FOLDER", folder)
    .split(" ");

/** The reason depends on the machine; each is a sentence of its own. */
const NO_TAP = /is no TAP|needs root|is not there|may not open|needs Linux|another user/;

const FAILED: readonly Row[] = [
  { args: "frontend --connect nobody@", code: 1, says: /nothing listens at .*ringwire device/ },
  { args: "frontend --connect 127.0.0.1:80", code: 1, says: /port 80; .*: 127\.0\.0\.1:7700/ },
  { args: "status --connect https://127.0.0.1", code: 1, says: /port 443; .*: 127\.0\.0\.1:7700/ },
  { args: "frontend --connect hangsUp@", code: 1, says: /is not a ringwire device's port/ },
  { args: "frontend --connect speaksElse@", code: 1, says: /does not answer as HTTP/ },
  { args: "frontend --connect web@", code: 1, says: /answers HTTP 200, so it is not a ringwire/ },
  {
    args: "frontend --connect missing@",
    code: 1,
    says: /answers HTTP 404, so it is not a ringwire/,
  },
  {
    args: "frontend --connect otherSocket@",
    code: 1,
    says: /WebSocket server, but not a ringwire/,
  },
  { args: "frontend --connect silentDevice@", code: 1, says: /connection/ },
  { args: "frontend --connect wss://device@", code: 1, says: /does not speak TLS; use ws:/ },
  { args: "frontend --connect ws://device@/other", code: 1, says: /HTTP 404.*\/nic/ },
  {
    args: "frontend --connect newer@",
    code: 1,
    says: /device refused: this device speaks version 9/,
  },
  { args: "frontend --connect nameTaken@", code: 1, says: /device refused: .*--name/ },
  { args: "frontend --connect no-such-host.invalid:7700", code: 1, says: /is not known; check/ },
  { args: "frontend --connect nobody@ --tap lo", code: 1, says: NO_TAP },
  { args: "device --listen 127.0.0.1:0 --uplink tap:lo", code: 1, says: NO_TAP },
  {
    args: "device --listen 127.0.0.1:0 --dhcp 10.0.0.1/8 --gateway lo",
    code: 1,
    says: /--gateway: /,
  },
  { args: "device --listen device@", code: 1, says: /is in use.*--listen/ },
  {
    args: "device --listen 192.0.2.77:7700 --insecure",
    code: 1,
    says: /no address of this machine/,
  },
  {
    args: "device --listen no-such-host.invalid:7700",
    code: 1,
    says: /host in --listen is not known/,
  },
  { args: "status --connect nobody@", code: 1, says: /nothing listens at .*ringwire device/ },
  { args: "status --connect hangsUp@", code: 1, says: /is not a ringwire device's port/ },
  { args: "status --connect speaksElse@", code: 1, says: /is not a ringwire device's port/ },
  {
    args: "status --connect web@",
    code: 1,
    says: /not a ringwire device's port: its page is not JSON/,
  },
  {
    args: "status --connect missing@",
    code: 1,
    says: /not a ringwire device's port: it answers HTTP 404/,
  },
  { args: "status --connect json@", code: 1, says: /its page is about something else/ },
  { args: "status --connect https://device@", code: 1, says: /does not speak TLS; use http:/ },
  { args: "status --connect no-such-host.invalid:7700", code: 1, says: /is not known; check/ },
  {
    args: "demo",
    code: 1,
    says: /no folder for the capture .*--no-capture/,
    env: { TMPDIR: "/nonexistent" },
  },
];

const USAGE: readonly Row[] = [
  { args: "frontend --connect h:1 --capture FOLDER", code: 2, says: /is a folder: name a file/ },
  { args: "device --capture FOLDER", code: 2, says: /--capture .* is a folder: name a file/ },
  { args: "device --capture FOLDER/no/file", code: 2, says: /--capture .*no such file/ },
  { args: "capture --connect nobody@ -w FOLDER", code: 2, says: /-w .* is a folder: name a file/ },
  { args: "demo --capture FOLDER/no/file", code: 2, says: /--capture .*no such file/ },
  {
    args: "frontend --connect nobody@ --tap a-name-of-17-byte",
    code: 2,
    says: /name .* has 17 bytes/,
  },
  {
    args: "lb -i netmap:ena0 --app FOLDER/none.js",
    code: 2,
    says: /--app: there is no file .*none\.js$/m,
  },
  { args: "lb -i netmap:ena0 --app FOLDER", code: 2, says: /--app: .* is a folder: name a file$/m },
  { args: "frontned", code: 2, says: /^ringwire: .*"frontned" \(Did you mean frontend\?\)$/m },
  {
    args: "device --queue 4",
    code: 2,
    says: /^ringwire: .*"--queue" \(Did you mean --queues\?\)$/m,
  },
  { args: "device extra", code: 2, says: /too many arguments/ },
  { args: "device --listen", code: 2, says: /argument missing/ },
  { args: "device --listen 7700", code: 2, says: /--listen takes HOST:PORT.*"7700" is a number/ },
  { args: "device --listen 1:7700", code: 2, says: /"1" is not a whole IPv4 address/ },
  { args: "device --listen ::", code: 2, says: /--listen \[::\]:7700 can be reached from/ },
  { args: "device --listen 127.0.0.1:70000", code: 2, says: /--listen takes HOST:PORT/ },
  { args: "device --listen 0.0.0.0:7700", code: 2, says: /other hosts.*--insecure/ },
  {
    args: "device --queues 0",
    code: 2,
    says: /--queues takes a whole number from 1 to 32, not "0"/,
  },
  { args: "device --mtu 65536", code: 2, says: /--mtu takes a whole number/ },
  { args: "device --uplink eth0", code: 2, says: /--uplink takes tap:NAME, not "eth0"/ },
  { args: "device --when-full wait", code: 2, says: /--when-full takes drop or hold/ },
  { args: "device --memory-limit 5k", code: 2, says: /--memory-limit takes at least 1000000/ },
  { args: "device --storm-limit 0", code: 2, says: /--storm-limit takes 1 to 10000000 or off/ },
  { args: "device --storm-limit arp=5", code: 2, says: /KIND=N \(broadcast, multicast, unknown\)/ },
  {
    args: "device --allow-host http://lab",
    code: 2,
    says: /--allow-host takes a host name without scheme and port, not "http:\/\/lab"/,
  },
  { args: "device --allow-host lab:7700", code: 2, says: /--allow-host takes a host name/ },
  { args: "device --segment a/b", code: 2, says: /--segment takes 1 to 63 letters/ },
  { args: "device --log xml", code: 2, says: /--log takes text or json/ },
  { args: "device -v -q", code: 2, says: /cannot be used with/ },
  { args: "device --config FOLDER/none.json", code: 2, says: /config file .* can't be used/ },
  { args: "device --config FOLDER/broken.json", code: 2, says: /config file .* can't be used/ },
  {
    args: "device --config FOLDER/unknown.json",
    code: 2,
    says: /sets "port", which device does not know/,
  },
  {
    args: "device --config FOLDER/section.json",
    code: 2,
    says: /has a section "devise", and there is no such command/,
  },
  { args: "device --config FOLDER/shape.json", code: 2, says: /is not of the form/ },
  {
    args: "device --config FOLDER/queues.json",
    code: 2,
    says: /--queues takes .*from the config file/,
  },
  { args: "frontend --connect 7700", code: 2, says: /"7700" is a number and no host; .*:7700$/m },
  { args: "status --connect 1", code: 2, says: /"1" is a number and no host; .*127\.0\.0\.1:1$/m },
  { args: "migrate a --to 7701", code: 2, says: /--to takes an address: "7701" is a number/ },
  { args: "migrate a", code: 2, says: /--to is needed/ },
  {
    args: "frontend --connect ftp://h:1",
    code: 2,
    says: /--connect takes an address: .*ws:\/\/h:1/,
  },
  { args: "frontend --connect ws://u:p@h:1", code: 2, says: /credentials do not belong/ },
  { args: "frontend --connect h:1 --driver e1000", code: 2, says: /--driver takes ena or xen/ },
  {
    args: "frontend --connect h:1 --untrusted",
    code: 2,
    says: /--untrusted goes with --driver xen/,
  },
  { args: "frontend --connect h:1 --name -x", code: 2, says: /--name takes 1 to 63 letters/ },
  {
    args: "frontend --connect h:1 --mac 01:00:00:00:00:01",
    code: 2,
    says: /--mac takes a unicast MAC/,
  },
  { args: "frontend --connect h:1 --mtu 10", code: 2, says: /--mtu takes a whole number from 128/ },
  { args: "wireshark --devices h:1", code: 2, says: /--devices goes with --install/ },
  { args: "demo --seconds x", code: 2, says: /--seconds takes a whole number.*"x"/ },
  { args: "status", code: 2, says: /RINGWIRE_CONNECT/, env: { RINGWIRE_CONNECT: "ftp://h" } },
  { args: "device", code: 2, says: /RINGWIRE_QUEUES/, env: { RINGWIRE_QUEUES: "many" } },
  ...["any", "all", "switch"].map((name) => ({
    args: `frontend --connect h:1 --name ${name}`,
    code: 2,
    says: /--name takes no reserved name: "\w+" is a word that captures use/,
  })),
  { args: "device --uplink tap:any", code: 2, says: /--uplink takes no reserved name: "any"/ },
  {
    args: "device --dhcp 10.0.0.1",
    code: 2,
    says: /--dhcp takes an IPv4 address with .*, not "10/,
  },
  {
    args: "device --dhcp 10.0.0.0/24",
    code: 2,
    says: /--dhcp takes .* host in 10.0.0.0\/24, not /,
  },
  { args: "device --gateway gw0", code: 2, says: /--gateway needs --dhcp/ },
  {
    args: "device --dhcp 10.0.0.1/24 --gateway any",
    code: 2,
    says: /--gateway takes a .*, not "any"/,
  },
  {
    args: "device --dhcp 10.0.0.254/24 --gateway g",
    code: 2,
    says: /--dhcp takes another address/,
  },
  {
    args: "device",
    code: 2,
    says: /RINGWIRE_INSECURE is "perhaps"/,
    env: { RINGWIRE_INSECURE: "perhaps" },
  },
  { args: "device", code: 2, says: /RINGWIRE_LOG is "loud"/, env: { RINGWIRE_LOG: "loud" } },
];

describe.each([
  ["fails", FAILED],
  ["was called wrongly", USAGE],
] as const)("a command that %s", (_what, rows) => {
  it.each(rows)(
    "fault-K11, ux-C6 $args: exit code $code, $says",
    async ({ args, code, says, env }) => {
      const child = await runInside(fill(args), env);
      expect(child.exit, child.said()).toEqual({ code, signal: null });
      expect(child.stderr).toMatch(says);
      expect(child.stderr).toMatch(/^ringwire: /m);
      expect(child.stdout).toBe("");
      // One sentence; commander's suggestion may add a second line.
      expect(child.stderr.trimEnd().split("\n").length, child.stderr).toBeLessThanOrEqual(2);
      expect(child.stderr).not.toMatch(/^\s+at /m);
    },
  );
});

describe("a NIC that can't be", () => {
  it("is refused when its address is another NIC's", async () => {
    const connect = ["--connect", `127.0.0.1:${devicePort}`, "--mac", "02:00:00:00:00:aa"];
    await using first = startRingwire(["frontend", ...connect, "--name", "a", "--json"]);
    await first.waitForJson((line) => line.event === "ready");
    const second = await runRingwire(["frontend", ...connect, "--name", "b"]);
    expect(second.exit?.code).toBe(1);
    expect(second.stderr).toMatch(
      /02:00:00:00:00:aa is the address of a; choose another with --mac/,
    );
  });

  it("takes no name away from another when it can't have its TAP", async () => {
    const args = ["frontend", "--connect", `127.0.0.1:${devicePort}`, "--name", "kept"];
    await using first = startRingwire([...args, "--json"]);
    await first.waitForJson((line) => line.event === "ready");
    const second = await runRingwire([...args, "--tap", "lo"]);
    expect(second.exit?.code).toBe(1);
    expect(second.stderr).toMatch(NO_TAP);
    first.signal("SIGTERM");
    expect(await first.ended()).toEqual({ code: 0, signal: null });
    expect(first.stdout).not.toContain("link-lost");
  });

  it("attack-S5 ends with 1 when another NIC has the name it insists on, and says what to do", async () => {
    const args = ["frontend", "--connect", `127.0.0.1:${devicePort}`, "--name", "same", "--json"];
    await using first = startRingwire(args);
    await first.waitForJson((line) => line.event === "ready");
    const second = await runRingwire(args);
    expect(second.exit).toEqual({ code: 1, signal: null });
    expect(second.stderr).toMatch(
      /"same" is the name of another NIC.*"same1"; choose another name with --name, or take this one with --take-over/,
    );
    expect(first.exit).toBeUndefined();
    expect(first.stdout).not.toContain("link-lost");
  });
});

describe("an error for programs", () => {
  it.each([
    ["status --connect nobody@", 1, "ECONNREFUSED"],
    ["frontend --connect nobody@", 1, "ECONNREFUSED"],
    ["frontend --connect nameTaken@", 1, "REFUSED_NAME_IN_USE"],
    ["status --connect web@", 1, "FAILED"],
    ["events --connect nobody@", 1, "ECONNREFUSED"],
    ["device --listen device@", 1, "EADDRINUSE"],
    ["frontend --connect nobody@ --listen device@", 1, "EADDRINUSE"],
    ["frontend --listen 0.0.0.0:1", 2, "USAGE"],
    ["token revoke a --file /nowhere/tokens.json", 1, "ENOENT"],
    ["cert a --dir /nowhere", 1, "ENOENT"],
    ["device --queues 0", 2, "USAGE"],
    ["device --queue 1", 2, "USAGE"],
  ])(
    "ux-C5 with --json %s is one event on stdout, and a sentence on stderr",
    async (args, code, name) => {
      const child = await runInside([...fill(args), "--json"]);
      expect(child.exit, child.said()).toEqual({ code, signal: null });
      const event = JSON.parse(child.stdout);
      expect(event).toEqual({ event: "error", code: name, message: expect.any(String) });
      expect(child.stderr).toBe(`ringwire: ${event.message}\n`);
    },
  );
});

describe("an error for programs that ask in another layer", () => {
  const file = join(folder, "json.json");
  writeFileSync(file, JSON.stringify({ status: { json: true } }));

  it.each([
    ["the environment", ["status"], { RINGWIRE_JSON: "1" }, 1],
    [
      "the environment, and a flag that is not there",
      ["status", "--queue"],
      { RINGWIRE_JSON: "true" },
      2,
    ],
    ["the file", ["status", "--config", file], {}, 1],
  ])("ux-C5 %s: one event on stdout, and a sentence on stderr", async (_layer, args, env, code) => {
    const child = await runInside([...args, "--connect", `127.0.0.1:${at.nobody}`], env);
    expect(child.exit, child.said()).toEqual({ code, signal: null });
    const event = JSON.parse(child.stdout);
    expect(event).toMatchObject({ event: "error" });
    expect(child.stderr).toBe(`ringwire: ${event.message}\n`);
  });
});

describe("ux-S18 a misspelt variable", () => {
  it("is a warning in the form of the log, and no more than that", async () => {
    const env = { RINGWIRE_CONECT: "h", RINGWIRE_CONNECT: `127.0.0.1:${devicePort}` };
    const plain = await runInside(["status"], env);
    expect(plain.exit, plain.said()).toEqual({ code: 0, signal: null });
    expect(plain.stderr).toMatch(
      /^\S+ warn {2}RINGWIRE_CONECT in the .*\(Did you mean RINGWIRE_CONNECT\?\)\n$/,
    );
    const json = await runInside(["status", "--log", "json"], env);
    expect(JSON.parse(json.stderr).msg).toMatch(/^RINGWIRE_CONECT/);
  });
});

describe("case-W10 an interface name that can't be", () => {
  // test/unit/tap-errors.test.ts tests the other names.
  it.each(["all", "a\tb", "\u00e0"])("%j: --tap and --uplink say so", async (name) => {
    for (const [flag, args] of [
      ["--tap", ["frontend", "--connect", `127.0.0.1:${at.nobody}`, "--tap", name]],
      ["--uplink", ["device", "--listen", "127.0.0.1:0", "--uplink", `tap:${name}`]],
    ] as const) {
      const child = await runInside(args);
      expect(child.exit, child.said()).toEqual({ code: 2, signal: null });
      const words = `ringwire: ${flag}: the interface name ${JSON.stringify(name)} `;
      expect(child.stderr.startsWith(words), child.stderr).toBe(true);
      expect(child.stderr).toMatch(/: choose one of 1 to 15 letters and digits, as rw0\n$/);
      expect(child.stdout).toBe("");
    }
  });
});
