/**
 * Advice for errors of the library: what a user of the command line can type. The library's
 * sentences name no flags, because other programs show them, too.
 */
import { httpUrl } from "../../shared/transport/address.ts";
import { isUntrusted } from "../../shared/transport/tls-trouble.ts";
import { messageOf, systemCode } from "./failure.ts";

/** Returns the sentence of an error, with a semicolon and the advice where there is any. */
export function sentenceOf(error: unknown, connect: string): string {
  const advice = adviceOn(systemCode(error), new URL(httpUrl(connect, "/")).host);
  return `${messageOf(error)}${advice}`;
}

/** Returns "; do this" for an error's code, or "". `host` is the device's HOST:PORT. */
export function adviceOn(code: string | undefined, host: string): string {
  if (code === "ECONNREFUSED") return `; start one there: ringwire device --listen ${host}`;
  if (code === "REFUSED_NAME_IN_USE") {
    return "; choose another name with --name, or take this one with --take-over";
  }
  if (code !== undefined && isUntrusted(code)) {
    return "; name the PEM file of its issuer with --ca, for a self-signed certificate its own";
  }
  if (code === "UNKNOWN_CLIENT")
    return "; give a token of this device with --token or RINGWIRE_TOKEN";
  return code === "REFUSED_MAC_IN_USE" ? "; choose another with --mac" : "";
}
