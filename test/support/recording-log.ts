/** A logger that records its lines. */
import type { Logger } from "../../shared/log.ts";

export class RecordingLog implements Logger {
  readonly debugs: string[] = [];
  readonly infos: string[] = [];
  readonly warnings: string[] = [];
  readonly errors: string[] = [];

  readonly debug = (_fields: object, message: string) => void this.debugs.push(message);
  readonly info = (_fields: object, message: string) => void this.infos.push(message);
  readonly warn = (_fields: object, message: string) => void this.warnings.push(message);
  readonly error = (_fields: object, message: string) => void this.errors.push(message);
}
