/**
 * Tells a service manager that the process is ready, alive or about to end: the protocol of
 * sd_notify(3). Does nothing for a process that no manager started with NOTIFY_SOCKET.
 *
 *   READY=1, STATUS=...    the work has begun
 *   WATCHDOG=1             twice in each WATCHDOG_USEC, while the event loop turns
 *   STOPPING=1             an orderly end has begun
 *
 * Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
 */
import type { Logger } from "../../shared/log.ts";
import type * as Sys from "../../shared/reactor/sys.ts";
import { messageOf } from "./failure.ts";

/** Time (ms) between two texts of the status without a watchdog. */
const STATUS_MS = 10_000;
/** Shortest time (ms) between two signs of life. */
const MIN_MS = 10;
const AF_UNIX = 1;
/** Bytes of sun_path (unix(7)). */
const MAX_PATH_BYTES = 108;

type Send = (message: string) => void;

export class ServiceManager {
  readonly #send: Send;
  readonly #everyMs: number;
  readonly #hasWatchdog: boolean;
  #timer: NodeJS.Timeout | undefined;

  private constructor(send: Send, watchdogMs: number | undefined) {
    this.#send = send;
    this.#hasWatchdog = watchdogMs !== undefined;
    this.#everyMs = watchdogMs === undefined ? STATUS_MS : Math.max(MIN_MS, watchdogMs / 2);
  }

  /** The manager that the environment names. A name that can't be used is logged, and is none. */
  static async from(env: NodeJS.ProcessEnv, log: Logger): Promise<ServiceManager> {
    const { NOTIFY_SOCKET: path = "", WATCHDOG_USEC: usec = "", WATCHDOG_PID: pid = "" } = env;
    const isMine = pid === "" || pid === String(process.pid);
    const watchdogMs = isMine && /^[1-9]\d{0,14}$/.test(usec) ? Number(usec) / 1000 : undefined;
    if (path === "") return new ServiceManager(() => {}, undefined);
    try {
      return new ServiceManager(await senderTo(path), watchdogMs);
    } catch (error) {
      log.warn({ path }, `the service manager can't be told anything: ${messageOf(error)}`);
      return new ServiceManager(() => {}, undefined);
    }
  }

  /** The work has begun. `statusOf` describes it in a line, from now on again and again. */
  ready(statusOf: () => string): void {
    const status = (): string => `STATUS=${statusOf().replace(/\s+/g, " ")}`;
    this.#send(`READY=1\n${status()}`);
    const alive = this.#hasWatchdog ? "WATCHDOG=1\n" : "";
    if (this.#hasWatchdog) this.#send("WATCHDOG=1");
    this.#timer = setInterval(() => this.#send(`${alive}${status()}`), this.#everyMs).unref();
  }

  /** An orderly end has begun. The watchdog goes on until the process ends. */
  stopping(why: string): void {
    this.#send(`STOPPING=1\nSTATUS=${why.replace(/\s+/g, " ")}`);
    clearInterval(this.#timer);
    if (!this.#hasWatchdog) return;
    this.#timer = setInterval(() => this.#send("WATCHDOG=1"), this.#everyMs).unref();
  }
}

/** Returns a function that sends datagrams to the socket `path`. Throws if there can't be one. */
async function senderTo(path: string): Promise<Send> {
  const name = Buffer.from(path);
  if (process.platform !== "linux") throw new Error("only Linux has sockets of this kind");
  if (!/^[/@]/.test(path) || name.length >= MAX_PATH_BYTES) {
    throw new Error("NOTIFY_SOCKET is neither an absolute path nor @ and an abstract name");
  }
  const sys: typeof Sys = await import("../../shared/reactor/sys.ts");
  // An abstract name begins with a zero byte, and has no zero byte behind it.
  const isAbstract = name[0] === 0x40;
  const address = Buffer.alloc(2 + name.length + (isAbstract ? 0 : 1));
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
  name.copy(address, 2);
  if (isAbstract) address[2] = 0;
  const fd = sys.socket(AF_UNIX, sys.SOCK_DGRAM | sys.SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Error(`no socket (errno ${sys.errno()})`);
  return (message) => {
    const bytes = Buffer.from(message);
    // A manager that is full or restarts misses a message. The next one says the same.
    const flags = sys.MSG_DONTWAIT | sys.MSG_NOSIGNAL;
    sys.sendto(fd, bytes, bytes.length, flags, address, address.length);
  };
}
