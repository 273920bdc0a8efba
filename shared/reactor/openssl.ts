/**
 * The functions of the OpenSSL in Node's binary that the data path calls, through koffi. Loaded by
 * dynamic import only. The import fails when the binary does not export one of them.
 *
 * A pointer of C is a number here. What an address points to must stay in place, see sys.ts.
 *
 * Source: the manual pages of OpenSSL 3, section 3, under the name of each function.
 */
import koffi from "koffi";
import { addressOfBuffer, LEAST_BYTES } from "./sys.ts";

const binary = koffi.load(null);

const declare = <A extends unknown[], R = number>(prototype: string): ((...args: A) => R) =>
  binary.func(prototype) as unknown as (...args: A) => R;

// openssl: include/openssl/ssl.h, include/openssl/bio.h.in
export const SSL_READING = 3;
const SSL_CTRL_MODE = 33;
const SSL_CTRL_CLEAR_MODE = 78;
const SSL_MODE_AUTO_RETRY = 0x4;
const SSL_MODE_RELEASE_BUFFERS = 0x10;
const SSL_OP_NO_RENEGOTIATION = 2 ** 30;
const BIO_C_SET_BUF_MEM_EOF_RETURN = 130;
/** SSL_set_app_data is the data of this index. */
const APP_DATA = 0;

// SSLs.

export const keep = declare<[ssl: number]>("int SSL_up_ref(uintptr_t ssl)");
export const free = declare<[ssl: number], void>("void SSL_free(uintptr_t ssl)");
/** Returns the length of this side's Finished message, of which `room` bytes are stored. */
export const getFinished = declare<[ssl: number, bytes: Uint8Array, room: number]>(
  "size_t SSL_get_finished(uintptr_t ssl, uint8_t *bytes, size_t room)",
);
export const want = declare<[ssl: number]>("int SSL_want(uintptr_t ssl)");
export const read = declare<[ssl: number, address: number, room: number]>(
  "int SSL_read(uintptr_t ssl, uintptr_t address, int room)",
);
export const write = declare<[ssl: number, address: number, bytes: number]>(
  "int SSL_write(uintptr_t ssl, uintptr_t address, int bytes)",
);
export const shutdown = declare<[ssl: number]>("int SSL_shutdown(uintptr_t ssl)");
/** Node has the same list of errors in its thread. A call that failed leaves its own there. */
export const clearErrors = declare<[], void>("void ERR_clear_error()");

const control = declare<[ssl: number, command: number, long: number, none: 0]>(
  "long SSL_ctrl(uintptr_t ssl, int command, long argument, uintptr_t pointer)",
);
const setOptions = declare<[ssl: number, options: number]>(
  "uint64_t SSL_set_options(uintptr_t ssl, uint64_t options)",
);

/**
 * Sets an SSL up for `read` and `write`: `read` returns after each record, buffers are held while they
 * are full only, and nobody begins another handshake (TLS 1.2).
 */
export function setUp(ssl: number): void {
  control(ssl, SSL_CTRL_CLEAR_MODE, SSL_MODE_AUTO_RETRY, 0);
  control(ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, 0);
  setOptions(ssl, SSL_OP_NO_RENEGOTIATION);
}

// Callbacks.

koffi.proto(
  "void MessageCallback(int write, int version, int type, uintptr_t bytes, size_t length, uintptr_t ssl, uintptr_t argument)",
);
export const watchMessages = declare<[context: number, callback: unknown], void>(
  "void SSL_CTX_set_msg_callback(uintptr_t context, MessageCallback *callback)",
);
/** Makes a callback for `watchMessages`, which lives as long as the process. */
export const messageCallback = (see: (ssl: number) => void): unknown =>
  koffi.register(
    (_write: 0 | 1, _version: number, _type: number, _bytes: number, _n: number, ssl: number) =>
      see(ssl),
    koffi.pointer("MessageCallback"),
  );
const setMessageCallback = declare<[ssl: number, none: 0], void>(
  "void SSL_set_msg_callback(uintptr_t ssl, uintptr_t callback)",
);
export const watchNoMessages = (ssl: number): void => setMessageCallback(ssl, 0);

const contextOf = declare<[ssl: number]>("uintptr_t SSL_get_SSL_CTX(uintptr_t ssl)");
const keylogCallback = declare<[context: number]>(
  "uintptr_t SSL_CTX_get_keylog_callback(uintptr_t context)",
);
export const logsSecrets = (ssl: number): boolean => keylogCallback(contextOf(ssl)) !== 0;

const setInfoCallback = declare<[ssl: number, none: 0], void>(
  "void SSL_set_info_callback(uintptr_t ssl, uintptr_t callback)",
);
const setNewSessionCallback = declare<[context: number, none: 0], void>(
  "void SSL_CTX_sess_set_new_cb(uintptr_t context, uintptr_t callback)",
);
const setExData = declare<[ssl: number, index: number, data: 0]>(
  "int SSL_set_ex_data(uintptr_t ssl, int index, uintptr_t data)",
);

/**
 * Removes Node's callbacks for events after a handshake, which would look for their socket: alerts and
 * changes of keys, and new sessions, of which no code of this project wants to know.
 */
export function dropCallbacks(ssl: number): void {
  setInfoCallback(ssl, 0);
  setNewSessionCallback(contextOf(ssl), 0);
  setExData(ssl, APP_DATA, 0);
}

// BIOs.

const keepBio = declare<[bio: number]>("int BIO_up_ref(uintptr_t bio)");
const freeBio = declare<[bio: number]>("int BIO_free(uintptr_t bio)");
export const bioPending = declare<[bio: number]>("size_t BIO_ctrl_pending(uintptr_t bio)");
const bioRead = declare<[bio: number, address: number, room: number]>(
  "int BIO_read(uintptr_t bio, uintptr_t address, int room)",
);
const bioControl = declare<[bio: number, command: number, long: number, none: 0]>(
  "long BIO_ctrl(uintptr_t bio, int command, long argument, uintptr_t pointer)",
);
const readBio = declare<[ssl: number]>("uintptr_t SSL_get_rbio(uintptr_t ssl)");
const writeBio = declare<[ssl: number]>("uintptr_t SSL_get_wbio(uintptr_t ssl)");
const setReadBio = declare<[ssl: number, bio: number], void>(
  "void SSL_set0_rbio(uintptr_t ssl, uintptr_t bio)",
);
const setWriteBio = declare<[ssl: number, bio: number], void>(
  "void SSL_set0_wbio(uintptr_t ssl, uintptr_t bio)",
);
const newMemoryBio = declare<[address: number, bytes: number]>(
  "uintptr_t BIO_new_mem_buf(uintptr_t address, int bytes)",
);
const newBioPair = declare<
  [one: Uint32Array, oneBytes: number, other: Uint32Array, otherBytes: number]
>("int BIO_new_bio_pair(uint32_t *one, size_t oneBytes, uint32_t *other, size_t otherBytes)");
/** Stores the address of up to `bytes` bytes, and takes them out. */
export const takeFromPair = declare<[bio: number, pointerAddress: number, bytes: number]>(
  "int BIO_nread(uintptr_t bio, uintptr_t pointer, int bytes)",
);

/** Reads a pointer that C has stored in the first two words. */
export const pointerAt = (words: Uint32Array): number => words[0]! + words[1]! * 2 ** 32;

/** Makes a pair of BIOs: the first is written, at most `bytes` at once, and the other one is read. */
export function newPair(bytes: number): [input: number, output: number] {
  const [input, output] = [new Uint32Array(LEAST_BYTES), new Uint32Array(LEAST_BYTES)];
  if (newBioPair(input, bytes, output, LEAST_BYTES) !== 1) throw new Error("no memory for BIOs");
  return [pointerAt(input), pointerAt(output)];
}

/** Lets an SSL write into a BIO that others write into, too. */
export function useSink(ssl: number, bio: number): void {
  keepBio(bio);
  setWriteBio(ssl, bio);
}

/** Lets an SSL read `bytes` bytes in place. Returns the BIO for `bioPending`. */
export function readFrom(ssl: number, address: number, bytes: number): number {
  const bio = newMemoryBio(address, bytes);
  // At its end the BIO asks for a later try.
  bioControl(bio, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, 0);
  setReadBio(ssl, bio);
  return bio;
}

/** True when an SSL has written records that nobody has sent yet. */
export const hasUnsent = (ssl: number): boolean => bioPending(writeBio(ssl)) > 0;

/**
 * Takes the bytes out of an SSL's BIOs that it has not read. The BIOs live until `release` is called,
 * because Node's object still points to them.
 */
export function takeBios(ssl: number): { early: Uint8Array; release: () => void } {
  const bios = [readBio(ssl), writeBio(ssl)] as const;
  for (const bio of bios) keepBio(bio);
  const length = bioPending(bios[0]);
  const early = new Uint8Array(Math.max(length, LEAST_BYTES));
  if (length > 0) bioRead(bios[0], addressOfBuffer(early.buffer), length);
  return {
    early: early.subarray(0, length),
    release: () => {
      for (const bio of bios) freeBio(bio);
    },
  };
}
