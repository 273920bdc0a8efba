/** The part of pino's logger that the rooms use; tests pass a recorder. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A logger for code that runs before, or without, one. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
