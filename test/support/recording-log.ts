/** A logger that writes down what it was told. */
import type { Logger } from "../../shared/log.ts";

export class RecordingLog implements Logger {
  readonly debugs: string[] = [];
  readonly infos: string[] = [];
  readonly warnings: string[] = [];
  readonly errors: string[] = [];

  debug(_fields: object, message: string): void {
    this.debugs.push(message);
  }
  info(_fields: object, message: string): void {
    this.infos.push(message);
  }
  warn(_fields: object, message: string): void {
    this.warnings.push(message);
  }
  error(_fields: object, message: string): void {
    this.errors.push(message);
  }
}
