/** A locked device by the command line: certificates, tokens, and what both ends say of them. */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { LabFiles } from "../support/lab-files.ts";
import { type Child, eventually, runRingwire, startRingwire } from "../support/process.ts";

const files = new LabFiles();
let device: DeviceProcess;
let alice: string;
let operator: string;

beforeAll(async () => {
  await files.deviceCertificates();
  await files.certificate("bob");
  alice = await files.token("alice", "--names", "alice-*");
  operator = await files.token("operator", "--role", "admin");
  await files.token("bob", "--certificate", "bob", "--role", "nic", "inspect").catch(() => "");
  device = await DeviceProcess.start(
    ...[...files.deviceTls, ...files.ca, "--tokens", files.tokens],
  );
});

afterAll(async () => {
  await device.stop();
  files[Symbol.dispose]();
});

const at = (scheme: "wss" | "https"): string[] => [
  ...["--connect", `${scheme}://localhost:${device.port}`],
  ...files.ca,
];

async function joins(...args: string[]): Promise<Child> {
  const child = startRingwire(["frontend", ...at("wss"), "--json", ...args]);
  await child.waitForJson((line) => line["event"] === "ready");
  return child;
}

describe("a client", () => {
  it("with a token has a NIC, by the flag, a file and the environment", async () => {
    const file = files.path("alice.token");
    writeFileSync(file, `# of alice\n\n${alice}\n`);
    await using one = await joins("--name", "alice-1", "--token", alice);
    await using other = await joins("--name", "alice-2", "--token", `@${file}`);
    const env = { RINGWIRE_TOKEN: operator };
    const status = await runRingwire(["status", ...at("https"), "--json"], { env });
    expect(status.exit, status.said()).toEqual({ code: 0, signal: null });
    const names = JSON.parse(status.stdout).nics.map(({ name }: { name: string }) => name);
    expect(names.toSorted()).toEqual(["alice-1", "alice-2"]);
    expect([one.exit, other.exit]).toEqual([undefined, undefined]);
  });

  it("with a certificate has the rights of its entry", async () => {
    await using nic = await joins("--name", "bobs", ...files.shows("bob"));
    const shows = [...at("https"), ...files.shows("bob")];
    expect((await runRingwire(["status", ...shows])).exit?.code).toBe(0);
    const capture = await runRingwire(["capture", "-w", "/dev/null", ...shows]);
    expect(capture.stderr).toMatch(/bob may not do this: it needs the role capture/);
    expect(nic.exit).toBeUndefined();
  });

  it.each<[string, () => string[], RegExp]>([
    ["nothing", () => [], /HTTP 401\): this device wants a token or a certificate; give .*--token/],
    ["another token", () => ["--token", `${alice}x`], /HTTP 401\): the token is not one of this/],
    ["no file", () => ["--token", "@/none"], /--token \/none: ENOENT/],
    ["half a certificate", () => ["--cert", files.path("bob.pem")], /--cert needs --key/],
    ["a key as certificate", () => ["--ca", files.path("ca-key.pem")], /has no CERTIFICATE in PEM/],
  ])("that shows %s is told what to do, by frontend and status", async (_what, shows, says) => {
    for (const [command, scheme] of [
      ["frontend", "wss"],
      ["status", "https"],
    ] as const) {
      const child = await runRingwire([command, ...at(scheme), ...shows()]);
      expect(child.stderr).toMatch(says);
      expect(child.stderr.trimEnd().split("\n")).toHaveLength(1);
      expect(child.exit?.code).toBeGreaterThan(0);
      expect(child.stderr).not.toContain(alice);
    }
  });

  it("has no NIC with another's name", async () => {
    const child = await runRingwire([
      ...["frontend", ...at("wss"), "--token", alice, "--name", "bobs"],
    ]);
    expect(child.exit).toEqual({ code: 1, signal: null });
    expect(child.stderr).toMatch(/alice may have no NIC with the name "bobs"/);
  });

  it("fault-L11 that is revoked loses its NIC, and others do not", async () => {
    const carol = await files.token("carol");
    const theirs = await eventually("the new token is known", async () => {
      const child = startRingwire(["frontend", ...at("wss"), "--json", "--token", carol]);
      const ready = child.waitForJson((line) => line["event"] === "ready").then(() => true);
      if (await Promise.race([ready, child.exited.then(() => false)])) return child;
      return undefined;
    });
    await using other = await joins("--name", "alice-1", "--token", alice);
    await files.revoke("carol");
    expect(await theirs.exited).toEqual({ code: 1, signal: null });
    expect(theirs.stderr).toMatch(/carol: it was revoked/);
    const again = await runRingwire(["frontend", ...at("wss"), "--token", carol]);
    expect(again.stderr).toMatch(/the token is not one of this device/);
    expect(other.exit).toBeUndefined();
  });
});

it("fault-L4 no secret is in a log, a status, a page or a capture of either end", async () => {
  const capture = files.path("secrets.pcapng");
  await using told = await DeviceProcess.start(
    ...[...files.deviceTls, ...files.ca, "--tokens", files.tokens],
    ...["--verbose", "--trace", "--capture", capture],
  );
  const to = (scheme: "wss" | "https"): string[] => [
    ...["--connect", `${scheme}://localhost:${told.port}`],
    ...files.ca,
  ];
  const nic = startRingwire([
    ...["frontend", ...to("wss"), "--json", "--verbose", "--name", "alice-1", "--token", alice],
  ]);
  try {
    await nic.waitForJson((line) => line["event"] === "ready");
    const said = [
      await runRingwire(["status", ...to("https"), "--json", "--token", operator]),
      await runRingwire(["status", ...to("https"), "--verbose", "--token", `${operator}x`]),
      await runRingwire(["status", ...to("https"), "--verbose", "--token", alice]),
    ].map((child) => child.said().replace(/^.*--token.*$/m, ""));
    // A user may put the token into the address, where it is none.
    const inAddress = await statusOf(told.port, `/status?token=${operator}`);
    expect(inAddress).toMatch(/this device wants a token/);
    await nic.stop();
    await told.stop();
    const all = [...said, inAddress, nic.stdout, nic.stderr, told.child.stdout, told.child.stderr];
    // The log does name the clients.
    expect(all.join("")).toContain("alice");
    all.push(readFileSync(capture, "latin1"));
    for (const token of [alice, operator]) {
      // rw_ID_SECRET, whose secret may have a "_", too.
      const secret = token.split("_").slice(2).join("_");
      expect(secret.length).toBeGreaterThan(20);
      for (const text of all) expect(text.includes(secret)).toBe(false);
    }
  } finally {
    await nic.stop();
  }
});

/** What the device answers to a request without a token. */
const statusOf = (port: number, path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const ca = readFileSync(files.ca[1]!);
    get(`https://localhost:${port}${path}`, { ca, agent: false }, (answer) => {
      text(answer).then(resolve, reject);
    }).on("error", reject);
  });

describe("a device", () => {
  /** Serial number of the certificate that a new client gets. */
  const serial = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port: device.port, ca: files.text("ca.pem") };
      const socket = connectTls(options, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on("error", reject);
    });

  it.each(["change", "SIGHUP"])(
    "has a new certificate after a %s, and keeps its NICs",
    async (by) => {
      await using nic = await joins("--name", "alice-1", "--token", alice);
      const before = await serial();
      await files.certificate("device", "--host", "localhost", "127.0.0.1", "--force");
      if (by === "SIGHUP") device.child.signal("SIGHUP");
      await eventually("the new certificate", async () =>
        (await serial()) === before ? undefined : true,
      );
      expect([nic.exit, device.child.exit]).toEqual([undefined, undefined]);
    },
  );

  it("keeps what it has when a file is broken, and says which", async () => {
    const [tokens, other] = [files.tokens, files.path("kept.json")];
    copyFileSync(tokens, other);
    writeFileSync(tokens, readFileSync(tokens, "utf8").replace(/"nic"/, '"king"'));
    device.child.signal("SIGHUP");
    await eventually("its words", () =>
      /the files stay as they were: .*tokens\.\d+\.roles\.0/.test(device.child.stderr)
        ? true
        : undefined,
    );
    await using nic = await joins("--name", "alice-1", "--token", alice);
    copyFileSync(other, tokens);
    expect(nic.exit).toBeUndefined();
  });

  it.each<[string[], RegExp]>([
    [
      ["--listen", "0.0.0.0:0"],
      /everybody may ask this device: add --tokens or --ca, or --insecure/,
    ],
    [["--cert", "ca.pem"], /^ringwire: --cert needs --key/],
    [["--key", "ca-key.pem"], /^ringwire: --key needs --cert/],
    [["--ca", "ca.pem"], /^ringwire: --ca needs --cert and --key/],
    [["--cert", "ca.pem", "--key", "bob-key.pem"], /^ringwire: TLS can't use .*ca\.pem.*key/],
    [["--cert", "none.pem", "--key", "ca-key.pem"], /^ringwire: --cert .*none\.pem: ENOENT/],
    [["--tokens", "ca.pem"], /^ringwire: --tokens .*ca\.pem: it is no JSON/],
  ])("fault-L9 does not start with %j", async (args, says) => {
    const paths = args.map((arg) => (arg.endsWith(".pem") ? files.path(arg) : arg));
    const child = await runRingwire(["device", "--listen", "127.0.0.1:0", ...paths]);
    expect(child.exit, child.said()).toEqual({ code: 2, signal: null });
    expect(child.stderr).toMatch(says);
  });

  it("without TLS warns that tokens cross the network in clear", async () => {
    await using open = startRingwire([
      ...["device", "--listen", "0.0.0.0:0", "--json", "--tokens", files.tokens],
    ]);
    await open.waitForJson((line) => line["event"] === "listening");
    expect(open.stderr).toMatch(/tokens and frames cross the network in clear/);
  });
});

describe("ringwire token and cert", () => {
  it("list what there is, and say what is wrong", async () => {
    const list = await runRingwire(["token", "list", "--file", files.tokens]);
    expect(list.stdout).toMatch(/^alice +token {2}nic {2}names alice-\*$/m);
    expect(list.stdout).toMatch(/^bob +certificate bob {2}nic inspect$/m);
    for (const [args, says] of [
      [["token", "new", "alice", "--file", files.tokens], /has a client alice already/],
      [["token", "revoke", "nobody", "--file", files.tokens], /has no client nobody/],
      [["token", "new", "x", "--role", "king", "--file", files.tokens], /roles\.0 .*nic/],
      [["token", "new", "a b", "--file", files.tokens], /id takes 1 to 63 letters/],
      [["token", "mint", "x"], /token takes new, list, revoke, not "mint"/],
      [["token", "new"], /new needs the client's name/],
      [["token", "new", "x", "--expires", "soon"], /--expires takes days as 30d/],
      [["cert", "bob", "--dir", files.folder], /bob\.pem is there; --force replaces it/],
      [["cert", "x", "--dir", "/none"], /make the authority first: ringwire cert ca/],
      [["cert", "a/b"], /"a\/b" is no name for a certificate/],
    ] as const) {
      const child = await runRingwire([...args]);
      expect(child.stderr).toMatch(says);
      expect(child.exit?.code).toBeGreaterThan(0);
    }
  });
});
