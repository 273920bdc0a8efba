/**
 * LIBPCAP: there is no libpcap. FILTER: libpcap does not accept the text, and says why. BUSY: too
 * many filters are being compiled.
 */
export type CaptureFilterCode = "LIBPCAP" | "FILTER" | "BUSY";

/** The error for a filter expression that can not be compiled. */
export class CaptureFilterError extends Error {
  readonly code: CaptureFilterCode;

  constructor(code: CaptureFilterCode, text: string) {
    super(text);
    this.name = "CaptureFilterError";
    this.code = code;
  }
}
