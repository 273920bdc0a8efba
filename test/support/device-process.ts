/** A real device process on a free port, and the questions that a test can ask it from outside. */

import { readFileSync } from "node:fs";
import { readStatus } from "../../shared/status/read.ts";
import { type Child, type StartOptions, startRingwire } from "./process.ts";
import type { DeviceStatus } from "./status.ts";

export interface DeviceStart extends StartOptions {
  /** Token with which the test reads the status of a locked device. */
  readonly token?: string | undefined;
}

export class DeviceProcess {
  readonly child: Child;
  readonly port: number;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(child: Child, port: number, token: string | undefined) {
    this.child = child;
    this.port = port;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  static async start(...args: string[]): Promise<DeviceProcess> {
    return await DeviceProcess.startWith({}, ...args);
  }

  static async startWith(options: DeviceStart, ...args: string[]): Promise<DeviceProcess> {
    const child = startRingwire(["device", "--listen", "127.0.0.1:0", "--json", ...args], options);
    try {
      const ready = await child.waitForJson<{ port: number }>((v) => v["event"] === "listening");
      return new DeviceProcess(child, ready.port, options.token);
    } catch (error) {
      await child.stop();
      throw error;
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async status(): Promise<DeviceStatus> {
    const response = await fetch(`${this.url}/status`, { headers: this.#headers });
    return readStatus(await response.json());
  }

  async lives(): Promise<boolean> {
    if (this.child.exit !== undefined) return false;
    return (await fetch(`${this.url}/livez`)).ok;
  }

  /** The process's resident memory, as the kernel counts it. */
  rssBytes(): number {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"));
    return Number(line![1]) * 1024;
  }

  async stop(): Promise<void> {
    await this.child.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
