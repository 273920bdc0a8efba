/** The files of --ca, --cert, --key and --token. They are read for each connection. */
import { readFileSync } from "node:fs";
import type { Credentials } from "../../shared/transport/credentials.ts";
import { ExitCode, Failure, messageOf } from "./failure.ts";
import type { Reach } from "./options.ts";

/** Longest file of a token or of certificates. */
const MAX_BYTES = 1 << 20;

/** Reads what this command shows to a device. Throws Failure, which names the flag and the file. */
export function readCredentials({ ca, cert, key, token }: Reach): Credentials {
  checkPair(cert, key);
  return {
    ca: pemFile("--ca", ca, "CERTIFICATE"),
    cert: pemFile("--cert", cert, "CERTIFICATE"),
    key: pemFile("--key", key, "PRIVATE KEY"),
    token: token?.startsWith("@") === true ? tokenOf(textOf("--token", token.slice(1))) : token,
  };
}

/** Throws Failure for one of --cert and --key without the other. */
export function checkPair(cert: string | undefined, key: string | undefined): void {
  if ((cert === undefined) === (key === undefined)) return;
  const [given, missing] = cert === undefined ? ["--key", "--cert"] : ["--cert", "--key"];
  throw new Failure(`${given} needs ${missing}: a certificate and its key`, ExitCode.USAGE);
}

/** Returns the text of a PEM file with at least one block of this kind; undefined without a path. */
export function pemFile(flag: string, path: string | undefined, kind: string): string | undefined {
  if (path === undefined) return undefined;
  const text = textOf(flag, path);
  if (!new RegExp(`^-----BEGIN (?:[A-Z]+ )?${kind}-----`, "m").test(text)) {
    throw new Failure(`${flag} ${path}: the file has no ${kind} in PEM`, ExitCode.USAGE);
  }
  return text;
}

export function textOf(flag: string, path: string): string {
  try {
    const bytes = readFileSync(path);
    if (bytes.length <= MAX_BYTES) return bytes.toString("utf8");
  } catch (error) {
    throw new Failure(`${flag} ${path}: ${messageOf(error)}`, ExitCode.USAGE);
  }
  throw new Failure(`${flag} ${path}: the file is longer than ${MAX_BYTES} bytes`, ExitCode.USAGE);
}

/** The file of a token may have a comment (#) and empty lines. */
function tokenOf(text: string): string {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.find((line) => line !== "" && !line.startsWith("#")) ?? "";
}
