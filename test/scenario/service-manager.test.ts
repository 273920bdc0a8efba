/** sd_notify: what device and frontend tell a service manager, heard by a real datagram socket. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ServiceManager } from "../../cli/common/service-manager.ts";
import * as sys from "../../shared/reactor/sys.ts";
import { eventually, startRingwire } from "../support/process.ts";
import { RecordingLog } from "../support/recording-log.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-notify-"));
afterAll(() => rmSync(folder, { recursive: true }));
let made = 0;

/** The socket of a service manager: a file, or with @ an abstract name. */
class Manager {
  readonly path: string;
  readonly heard: string[] = [];
  readonly #fd: number;
  readonly #bytes = Buffer.alloc(4096);

  constructor(kind: "file" | "abstract" = "file") {
    const name = `notify-${process.pid}-${made++}`;
    this.path = kind === "file" ? join(folder, name) : `@ringwire-${name}`;
    const address = Buffer.alloc(110);
    address.writeUInt16LE(1);
    address.write(kind === "file" ? this.path : `\0${this.path.slice(1)}`, 2);
    const length = 2 + this.path.length + (kind === "file" ? 1 : 0);
    this.#fd = sys.socket(1, sys.SOCK_DGRAM, 0);
    expect(sys.bind(this.#fd, address, length)).toBe(0);
  }

  /** Messages so far; the newest last. */
  listen(): readonly string[] {
    for (;;) {
      const n = sys.recv(this.#fd, sys.addressOf(this.#bytes), 4096, sys.MSG_DONTWAIT);
      if (n < 0) return this.heard;
      this.heard.push(this.#bytes.toString("utf8", 0, n));
    }
  }

  until(pattern: RegExp): Promise<string> {
    return eventually(
      () => `${pattern} in ${JSON.stringify(this.heard)}`,
      () => this.listen().find((message) => pattern.test(message)),
    );
  }

  [Symbol.dispose](): void {
    sys.close(this.#fd);
  }
}

describe.each(["file", "abstract"] as const)("with a socket that is %s", (kind) => {
  it("a device is ready when it listens, lives, and says that it stops", async () => {
    using manager = new Manager(kind);
    const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: "100000" };
    const args = ["device", "--listen", "127.0.0.1:0", "--json"];
    await using device = startRingwire(args, { env });
    const { url } = await device.waitForJson<{ url: string }>((l) => l["event"] === "listening");
    expect(await manager.until(/^READY=1$/m)).toBe(`READY=1\nSTATUS=listening on ${url}, 0 NICs`);
    await manager.until(/^WATCHDOG=1\nSTATUS=listening/);
    await using nic = startRingwire(["frontend", "--connect", url, "--json"]);
    await nic.waitForJson((line) => line["event"] === "ready");
    await manager.until(/, 1 NICs$/);
    device.signal("SIGTERM");
    await manager.until(/^STOPPING=1\nSTATUS=the device stops$/);
    expect(await device.ended()).toEqual({ code: 0, signal: null });
    expect(manager.listen().filter((message) => message.startsWith("READY"))).toHaveLength(1);
  });
});

it("a frontend is ready when its NIC is up, and not before", async () => {
  using manager = new Manager();
  const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: "100000" };
  await using device = startRingwire(["device", "--listen", "127.0.0.1:0", "--json"]);
  const { url } = await device.waitForJson<{ url: string }>((l) => l["event"] === "listening");
  await using nic = startRingwire(["frontend", "--connect", url, "--json"], { env });
  expect(await manager.until(/./)).toBe("READY=1\nSTATUS=ena0 on lan0, link up");
  expect(nic.stdout).toContain('"event":"ready"');
  await device.stop();
  await manager.until(/^WATCHDOG=1\nSTATUS=ena0: no device$/);
  nic.signal("SIGTERM");
  await manager.until(/^STOPPING=1/);
});

it("a watchdog of another process is not fed", async () => {
  using manager = new Manager();
  const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: "20000", WATCHDOG_PID: "1" };
  const log = new RecordingLog();
  const service = await ServiceManager.from(env, log);
  service.ready(() => "one\nline");
  service.stopping("over");
  expect(manager.listen()).toEqual(["READY=1\nSTATUS=one line", "STOPPING=1\nSTATUS=over"]);
  expect(log.warnings).toEqual([]);
});

it.each([
  ["a relative path", "notify"],
  ["a long path", `/${"x".repeat(200)}`],
])("%s is logged, and nothing else happens", async (_what, path) => {
  const log = new RecordingLog();
  const service = await ServiceManager.from({ NOTIFY_SOCKET: path }, log);
  service.ready(() => "");
  service.stopping("");
  expect(log.warnings).toHaveLength(1);
});

it("a manager that is gone disturbs nobody", async () => {
  const log = new RecordingLog();
  const service = await ServiceManager.from({ NOTIFY_SOCKET: join(folder, "none") }, log);
  service.ready(() => "");
  service.stopping("");
  expect(log.warnings).toEqual([]);
});
