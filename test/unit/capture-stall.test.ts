/**
 * Readers of captures that stay connected and read nothing: which of them are cut off, and when.
 */
import { once } from "node:events";
import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, describe, expect, it } from "vitest";
import { Identity } from "../../device/access/gate.ts";
import {
  CaptureHub,
  CaptureRefusal,
  CROWDED_STALL_MS,
  MAX_CAPTURES,
  STALL_MS,
} from "../../device/capture/hub.ts";
import { capturePage } from "../../device/capture/page.ts";
import { Switch } from "../../device/switch/switch.ts";
import { readCapture } from "../../shared/capture/read.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { frameOf } from "../support/packets.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { TestPort } from "../support/switch-port.ts";

const FRAMES = { sources: ["any"], frames: true, ring: false };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A segment whose captures use the process's clock, plus the time that the test adds. */
class Stage {
  readonly segment = new Switch({ name: "lan", now: () => 0, whenFull: "drop" });
  readonly log = new RecordingLog();
  readonly port = this.segment.attach(new TestPort("a"));
  readonly hub: CaptureHub;
  laterMs = 0;

  constructor() {
    const { segment, log } = this;
    const now = () => performance.now() + this.laterMs;
    this.hub = new CaptureHub({ segments: [segment], agent: "test 1", log, now });
  }

  /** A capture into a stream with a small buffer that is never read. */
  stall(name: string) {
    const stream = new PassThrough({ highWaterMark: 16 });
    const recorder = this.hub.start(new StreamOutput(stream, name), FRAMES);
    return { stream, recorder };
  }

  frames(count: number): void {
    const bytes = new Uint8Array(1500).fill(0xff, 0, 6);
    bytes[6] = 2;
    for (let i = 0; i < count; i++) this.port.input(frameOf(bytes));
  }
}

describe("a reader that takes nothing", () => {
  it("has ten minutes; then its capture ends with one warning, and is counted", async () => {
    const stage = new Stage();
    const { recorder, stream } = stage.stall("10.0.0.1:5000");
    const beside = stage.hub.start(new MemoryOutput(), FRAMES);
    stage.frames(10);
    await turn();
    await turn();
    stage.laterMs = STALL_MS - 60_000;
    stage.hub.tick();
    expect(stage.hub.snapshot()).toEqual({ running: 2, begun: 2, cutOff: 0 });
    stage.laterMs = STALL_MS;
    stage.hub.tick();
    expect(stage.hub.snapshot()).toEqual({ running: 1, begun: 2, cutOff: 1 });
    expect(await recorder.done).toMatchObject({ reason: "failed", code: "ETIMEDOUT" });
    expect(stream.destroyed).toBe(true);
    expect(stage.log.warnings).toEqual([
      expect.stringMatching(
        /capture to 10\.0\.0\.1:5000 stopped: its reader has taken nothing for 60\d s; .*traffic goes on/,
      ),
    ]);
    stage.hub.tick();
    expect(stage.hub.snapshot().cutOff).toBe(1);
    // The others continue.
    stage.frames(1);
    expect((await beside.stop("test")).packets).toBe(11);
  });

  it("is no reader that has nothing to take, nor one that has taken something meanwhile", async () => {
    const stage = new Stage();
    const idle = new PassThrough();
    const quiet = stage.hub.start(new StreamOutput(idle.resume(), "idle"), FRAMES);
    const { stream, recorder } = stage.stall("slow");
    stage.frames(1);
    await turn();
    await turn();
    stage.laterMs = STALL_MS;
    stream.resume();
    for (let i = 0; i < 10; i++) await turn();
    stage.hub.tick();
    expect(stage.hub.snapshot()).toMatchObject({ running: 2, cutOff: 0 });
    await Promise.all([quiet.stop("test"), recorder.stop("test")]);
  });

  it("loses its place after seconds when all are taken and somebody asks; the longest goes first", async () => {
    const stage = new Stage();
    const others = Array.from({ length: MAX_CAPTURES - 2 }, () =>
      stage.hub.start(new MemoryOutput(), FRAMES),
    );
    const first = stage.stall("first");
    stage.frames(10);
    await turn();
    await turn();
    const second = stage.stall("second");
    stage.frames(10);
    await turn();
    await turn();
    expect(() => stage.hub.check(FRAMES)).toThrow(CaptureRefusal);
    stage.laterMs = CROWDED_STALL_MS;
    const next = stage.hub.start(new MemoryOutput(), FRAMES);
    expect(await first.recorder.done).toMatchObject({ code: "ETIMEDOUT" });
    expect(stage.hub.snapshot()).toEqual({ running: 16, begun: 17, cutOff: 1 });
    expect([second, ...others].every((r) => ("recorder" in r ? !r.recorder.ended : !r.ended))).toBe(
      true,
    );
    // Now the other stalled capture ends; after that no capture is stalled.
    stage.hub.start(new MemoryOutput(), FRAMES);
    expect(await second.recorder.done).toMatchObject({ code: "ETIMEDOUT" });
    expect(() => stage.hub.check(FRAMES)).toThrow(/16 captures run already/);
    expect(next.ended).toBe(false);
    await stage.hub.close("test");
  });
});

describe("over HTTP", () => {
  let server: Server;
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it("a client that loses its rights while its filter is compiled has no capture", async () => {
    const stage = new Stage();
    const identity = new Identity(undefined);
    const page = Promise.withResolvers<void>();
    server = createServer((request, response) => {
      const asks = { query: "filter=icmp", stream: () => {}, identity };
      void capturePage(stage.hub, asks, request, response).then(page.resolve, page.reject);
      identity.end("revoked");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const asked = get({ port, host: "127.0.0.1", path: "/capture", agent: false });
    const [error] = (await once(asked, "error")) as [Error];
    expect(error.message).toMatch(/socket hang up|ECONNRESET/);
    await page.promise;
    expect(stage.hub.snapshot()).toMatchObject({ running: 0, begun: 0 });
  });

  it("a socket that is not read is cut off; what it got is whole blocks up to there", async () => {
    const stage = new Stage();
    const identity = new Identity(undefined);
    const asks = { query: "", stream: () => {}, identity };
    server = createServer((request, response) => {
      void capturePage(stage.hub, asks, request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const asked = get({ port, host: "127.0.0.1", path: "/capture", agent: false });
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    answer.pause();
    // More bytes than both sides of the connection buffer.
    for (let burst = 0; burst < 400; burst++) {
      stage.frames(100);
      await turn();
    }
    stage.laterMs = STALL_MS;
    stage.hub.tick();
    expect(stage.hub.snapshot()).toEqual({ running: 0, begun: 1, cutOff: 1 });
    await turn();
    expect(stage.log.warnings).toHaveLength(1);
    const chunks: Buffer[] = [];
    answer.on("data", (chunk: Buffer) => chunks.push(chunk));
    answer.resume();
    const [error] = (await once(answer, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ECONNRESET");
    expect([...readCapture(Buffer.concat(chunks))].length).toBeGreaterThan(100);
  });
});
