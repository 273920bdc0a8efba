/** LIBPCAP: there is no libpcap. FILTER: libpcap does not accept the text, and says why. */
export type CaptureFilterCode = "LIBPCAP" | "FILTER";

export class CaptureFilterError extends Error {
  readonly code: CaptureFilterCode;

  constructor(code: CaptureFilterCode, text: string) {
    super(text);
    this.name = "CaptureFilterError";
    this.code = code;
  }
}
