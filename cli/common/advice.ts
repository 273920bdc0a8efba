/**
 * What a person at a command line can type about an error of the library. The library's sentences
 * name no flags: programs show them, too.
 */
import { httpUrl } from "../../shared/transport/address.ts";
import { messageOf, systemCode } from "./failure.ts";

/** The sentence of an error, and behind a semicolon the advice, where there is one. */
export function sentenceOf(error: unknown, connect: string): string {
  const advice = adviceOn(systemCode(error), new URL(httpUrl(connect, "/")).host);
  return `${messageOf(error)}${advice}`;
}

/** "; do this" for an error's code, or nothing. `host` is the device's HOST:PORT. */
export function adviceOn(code: string | undefined, host: string): string {
  switch (code) {
    case "ECONNREFUSED":
      return `; start one there: ringwire device --listen ${host}`;
    case "REFUSED_NAME_IN_USE":
      return "; choose another name with --name, or take this one with --take-over";
    case "REFUSED_MAC_IN_USE":
      return "; choose another with --mac";
    default:
      return "";
  }
}
