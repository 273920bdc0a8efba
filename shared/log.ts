/** The part of pino's logger that the rooms use; tests pass a recorder. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type Level = keyof Logger;

/** Returns a logger whose lines all go to `write`. */
export const loggerOf = (
  write: (level: Level, fields: object, message: string) => void,
): Logger => ({
  debug: (fields, message) => write("debug", fields, message),
  info: (fields, message) => write("info", fields, message),
  warn: (fields, message) => write("warn", fields, message),
  error: (fields, message) => write("error", fields, message),
});

/** A logger for code that runs before, or without, one. */
export const silentLogger: Logger = loggerOf(() => {});

/** Returns a logger that adds `fields` to each record, such as the subject of the lines. */
export const withFields = (log: Logger, fields: object): Logger =>
  loggerOf((level, more, message) => log[level]({ ...fields, ...more }, message));
