/**
 * Explains why a TLS handshake failed, and names the remedy.
 *
 * Codes: Node.js documentation, tls, "X509 certificate error codes". ERR_TLS_CERT_ALTNAME_INVALID
 * comes from Node's own check of the name, HOSTNAME_MISMATCH from OpenSSL's. Node's own messages
 * recommend command-line options of Node, which a user of an installed program can't set.
 */

const UNTRUSTED: readonly string[] = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_UNTRUSTED",
  "CERT_SIGNATURE_FAILURE",
  "INVALID_CA",
];
const NAME = ["ERR_TLS_CERT_ALTNAME_INVALID", "HOSTNAME_MISMATCH"];
/** The other codes of certificates and revocation lists. */
const OTHER = /^(CERT|CRL|ERROR_IN_C(ERT|RL)|UNABLE_TO)_|^(PATH_LENGTH_EXCEEDED|INVALID_PURPOSE)$/;
/** OpenSSL's errors for an answer that is not a TLS record. */
const NO_TLS = /wrong version number|packet length too long|unknown protocol|record layer failure/i;

/** Returns true for an error that a certificate of the right issuer at this end would cure. */
export const isUntrusted = (code: string): boolean => UNTRUSTED.includes(code);

/**
 * Returns a sentence about `error`, with which a TLS connection to `host` (HOST or HOST:PORT) ended.
 * `plain` is the scheme to use without TLS. Returns undefined when the error is not about TLS.
 */
export function tlsTrouble(
  error: { readonly code?: string | undefined; readonly message: string },
  host: string,
  plain: "ws" | "http",
): string | undefined {
  const { code = "", message } = error;
  if (isUntrusted(code)) {
    return `this machine does not trust the certificate of ${host} (${code})`;
  }
  if (NAME.includes(code)) {
    return `the certificate of ${host} was issued for other names (${code}): use a name that it holds`;
  }
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") {
    const state = code === "CERT_HAS_EXPIRED" ? "has expired" : "is not valid yet";
    return `the certificate of ${host} ${state} (${code}): have it renewed, and look at the clocks of both machines`;
  }
  if (OTHER.test(code)) {
    return `the certificate of ${host} can't be accepted (${code}): have it replaced`;
  }
  if (code === "ECONNRESET") {
    return `${host} broke the connection off; if it speaks no TLS use ${plain}://${host}`;
  }
  if (code !== "EPROTO" && !code.startsWith("ERR_SSL_")) return undefined;
  if (NO_TLS.test(message)) return `${host} does not speak TLS; use ${plain}://${host}`;
  return `the TLS handshake with ${host} failed: ${reasonOf(message)}`;
}

/** Returns the readable part of OpenSSL's message: error:NUMBER:library:function:REASON. */
const reasonOf = (message: string): string =>
  /error:[0-9A-F]+:[^:]*:[^:]*:([^:]+)/.exec(message)?.[1] ?? message.trim();
