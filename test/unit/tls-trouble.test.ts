/** Each failure of a TLS handshake is reported by a sentence that tells the reader what to do. */
import { describe, expect, it } from "vitest";
import { tlsTrouble } from "../../shared/transport/tls-trouble.ts";

/**
 * Node.js documentation, tls, "X509 certificate error codes", and Node's own code for a wrong name.
 */
const CODES = [
  ...["UNABLE_TO_GET_ISSUER_CERT", "UNABLE_TO_GET_CRL", "UNABLE_TO_DECRYPT_CERT_SIGNATURE"],
  ...["UNABLE_TO_DECRYPT_CRL_SIGNATURE", "UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY"],
  ...["CERT_SIGNATURE_FAILURE", "CRL_SIGNATURE_FAILURE", "CERT_NOT_YET_VALID", "CERT_HAS_EXPIRED"],
  ...["CRL_NOT_YET_VALID", "CRL_HAS_EXPIRED", "ERROR_IN_CERT_NOT_BEFORE_FIELD"],
  ...["ERROR_IN_CERT_NOT_AFTER_FIELD", "ERROR_IN_CRL_LAST_UPDATE_FIELD"],
  ...["ERROR_IN_CRL_NEXT_UPDATE_FIELD", "DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN"],
  ...["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ...["CERT_CHAIN_TOO_LONG", "CERT_REVOKED", "INVALID_CA", "PATH_LENGTH_EXCEEDED"],
  ...["INVALID_PURPOSE", "CERT_UNTRUSTED", "CERT_REJECTED", "HOSTNAME_MISMATCH"],
  "ERR_TLS_CERT_ALTNAME_INVALID",
];
/** The text of Node 24. */
const ADVICE = "self-signed certificate; if the root CA is installed locally, try --use-system-ca";
const openssl = (reason: string): string =>
  `write EPROTO 408D02:error:0A00010B:SSL routines:f:${reason}:../deps/x.c:77:SSL alert number 70\n`;

describe("ux-P7 TLS trouble", () => {
  it.each(CODES)("%s is about the certificate", (code) => {
    const said = tlsTrouble({ code, message: ADVICE }, "lab:7743", "ws");
    expect(said).toMatch(/the certificate of lab:7743 .*\([A-Z_]+\)(?:: |$)/);
    expect(said).not.toContain("use-system-ca");
  });

  it.each([
    ["EPROTO", openssl("wrong version number"), /^lab does not speak TLS; use http:\/\/lab$/],
    ["EPROTO", openssl("tlsv1 alert protocol version"), /failed: tlsv1 alert protocol version$/],
    ["ERR_SSL_SOMETHING", "no line of OpenSSL\n", /failed: no line of OpenSSL$/],
    ["ECONNRESET", "read ECONNRESET", /broke the connection off; if it speaks no TLS use http:/],
  ])("%s: %j", (code, message, says) => {
    expect(tlsTrouble({ code, message }, "lab", "http")).toMatch(says);
  });

  it("what is not about TLS is somebody else's to explain", () => {
    expect(tlsTrouble({ message: "x" }, "lab", "ws")).toBeUndefined();
    expect(tlsTrouble({ code: "ECONNREFUSED", message: "x" }, "lab", "ws")).toBeUndefined();
  });
});
