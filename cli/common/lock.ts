/**
 * The files with which a device locks its port: --cert, --key, --ca, --tokens. They are read again
 * when one of them changes, and at SIGHUP. A file that can't be used changes nothing.
 */
import { unwatchFile, watchFile } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Client } from "../../device/access/token.ts";
import type { Device, TlsTexts } from "../../device/index.ts";
import type { Logger } from "../../shared/log.ts";
import { checkPair, pemFile, textOf } from "./credentials.ts";
import { ExitCode, Failure, messageOf } from "./failure.ts";

/** Time (ms) between two looks at the files. */
const LOOK_MS = 1000;

interface LockFiles {
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly ca?: string | undefined;
  readonly tokens?: string | undefined;
}

export class Lock {
  readonly #files: LockFiles;
  readonly #paths: readonly string[];
  #renew: (() => void) | undefined;

  /** Throws Failure when the flags contradict each other. */
  constructor(files: LockFiles) {
    const { cert, key, ca, tokens } = files;
    checkPair(cert, key);
    if (ca !== undefined && cert === undefined) {
      throw new Failure("--ca needs --cert and --key: certificates belong to TLS", ExitCode.USAGE);
    }
    this.#files = files;
    this.#paths = [cert, key, ca, tokens].filter((path) => path !== undefined);
  }

  get hasFiles(): boolean {
    return this.#paths.length > 0;
  }

  get isTls(): boolean {
    return this.#files.cert !== undefined;
  }

  /** True when clients must show something. */
  get isLocked(): boolean {
    return this.#files.tokens !== undefined || this.#files.ca !== undefined;
  }

  /** Reads the files. Throws Failure, which names the flag and the file. */
  async read(): Promise<{ tls?: TlsTexts; clients?: Client[] }> {
    const { cert, key, ca, tokens } = this.#files;
    const found: { tls?: TlsTexts; clients?: Client[] } = {};
    if (cert !== undefined) {
      found.tls = {
        cert: pemFile("--cert", cert, "CERTIFICATE")!,
        key: pemFile("--key", key, "PRIVATE KEY")!,
        ca: pemFile("--ca", ca, "CERTIFICATE"),
      };
      try {
        createSecureContext(found.tls);
      } catch (error) {
        const files = [cert, key, ca].filter((path) => path !== undefined).join(", ");
        throw new Failure(`TLS can't use ${files}: ${messageOf(error)}`, ExitCode.USAGE);
      }
    }
    if (tokens !== undefined) {
      const { parseTokens } = await import("../../device/access/token.ts");
      try {
        found.clients = parseTokens(textOf("--tokens", tokens));
      } catch (error) {
        if (error instanceof Failure) throw error;
        throw new Failure(`--tokens ${tokens}: ${messageOf(error)}`, ExitCode.USAGE);
      }
    }
    return found;
  }

  /** Gives `device` what the files say, from now on whenever they change. */
  follow(device: Pick<Device, "renew">, log: Logger): void {
    if (!this.hasFiles) return;
    this.#renew = () => void this.#read(device, log);
    for (const path of this.#paths)
      watchFile(path, { interval: LOOK_MS, persistent: false }, this.#renew);
    process.on("SIGHUP", this.#renew);
  }

  close(): void {
    if (this.#renew === undefined) return;
    for (const path of this.#paths) unwatchFile(path, this.#renew);
    process.off("SIGHUP", this.#renew);
    this.#renew = undefined;
  }

  async #read(device: Pick<Device, "renew">, log: Logger): Promise<void> {
    try {
      device.renew(await this.read());
      log.info({ files: this.#paths }, "read certificates and tokens again");
    } catch (error) {
      log.error({ err: error }, `the files stay as they were: ${messageOf(error)}`);
    }
  }
}
