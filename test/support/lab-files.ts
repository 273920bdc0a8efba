/** Certificates and tokens of a test, made by the commands that users have. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runRingwire } from "./process.ts";

export class LabFiles implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire-lab-"));

  path(name: string): string {
    return join(this.folder, name);
  }

  text(name: string): string {
    return readFileSync(this.path(name), "utf8");
  }

  /** `ringwire cert NAME`: NAME.pem and NAME-key.pem. */
  async certificate(name: string, ...args: string[]): Promise<void> {
    await this.#run("cert", name, "--dir", this.folder, ...args);
  }

  /** The authority of the lab, and the certificate of a device on this machine. */
  async deviceCertificates(): Promise<void> {
    await this.certificate("ca");
    await this.certificate("device", "--host", "localhost", "127.0.0.1");
  }

  /** `ringwire token new ID`. Returns the token. */
  async token(id: string, ...args: string[]): Promise<string> {
    return (await this.#run("token", "new", id, "--file", this.tokens, ...args)).trim();
  }

  async revoke(id: string): Promise<void> {
    await this.#run("token", "revoke", id, "--file", this.tokens);
  }

  get tokens(): string {
    return this.path("tokens.json");
  }

  /** Flags of a device with a certificate of this lab. */
  get deviceTls(): string[] {
    return ["--cert", this.path("device.pem"), "--key", this.path("device-key.pem")];
  }

  /** Flags of a client that shows a certificate. */
  shows(name: string): string[] {
    return ["--cert", this.path(`${name}.pem`), "--key", this.path(`${name}-key.pem`)];
  }

  get ca(): string[] {
    return ["--ca", this.path("ca.pem")];
  }

  async #run(...args: string[]): Promise<string> {
    const child = await runRingwire(args);
    if (child.exit?.code !== 0) throw new Error(child.said());
    return child.stdout;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
