/** What a client shows to a device, and by what it knows the device. */

export interface Credentials {
  /** PEM text of the certificates that may have issued the device's. Default: those of Node. */
  readonly ca?: string | undefined;
  /** PEM text of the client's own certificate and those between it and the device's `ca`. */
  readonly cert?: string | undefined;
  /** PEM text of the key of `cert`. */
  readonly key?: string | undefined;
  /** Bearer token (RFC 6750), as `ringwire token new` prints it. */
  readonly token?: string | undefined;
}

/** Credentials, or a function that is called for each connection, so that they can be renewed. */
export type CredentialSource = Credentials | (() => Credentials);

/** Returns options for Node's clients of HTTP and TLS. Throws what a CredentialSource throws. */
export function requestOptions(source: CredentialSource = {}): {
  ca?: string;
  cert?: string;
  key?: string;
  headers: Record<string, string>;
} {
  const { ca, cert, key, token } = typeof source === "function" ? source() : source;
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  };
}
