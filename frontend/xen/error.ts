/** A backend that can't be used; `message` is a sentence for a person. */
export class XenError extends Error {
  readonly code: string;
  readonly errno: number;
  constructor(code: string, errno: number, message: string) {
    super(message);
    this.name = "XenError";
    this.code = code;
    this.errno = errno;
  }
}
