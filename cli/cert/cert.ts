/**
 * `ringwire cert`: a certificate authority of a lab. It makes a key and a certificate of its own
 * once, and then certificates for devices and clients.
 *
 *   ca.pem, ca-key.pem ──issues──► NAME.pem, NAME-key.pem      for TLS at both ends
 */
import { webcrypto } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { Command } from "commander";
import * as z from "zod";
import { Failure, messageOf, wrong } from "../common/failure.ts";
import { CommonShape, completed, whole, word } from "../common/options.ts";
import { Output } from "../common/output.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
/** Clocks of a lab differ. A certificate is valid from an hour before it is made. */
const EARLY_MS = 3_600_000;
const CA_DAYS = 3650;
/** Apple's limit for certificates of servers, which browsers share. */
const DAYS = 397;
const MAX_DAYS = 36_500;
const CA = "ca";

const Shape = z.object({
  ...CommonShape,
  dir: z.string().min(1).default("."),
  host: z.array(z.string()).default([]),
  days: whole(1, MAX_DAYS).optional(),
  force: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function certCommand(): Command {
  const command = new Command("cert")
    .description("Makes certificates for a lab: for its authority, its devices and its clients.")
    .argument("<name>", "ca for the authority; else the name of a device or of a client's NICs")
    .option("--dir <folder>", "where the authority's files are and the new ones go (.)")
    .option("--host <name...>", "host names and addresses of a device; may be repeated (none)")
    .option("--days <n>", `days for which it is valid (${DAYS}, the authority ${CA_DAYS})`)
    .option("--force", "replace files that are there");
  return completed(command, EXAMPLES, Shape, async (options, name = "") => {
    if (!word.safeParse(name).success) throw wrong(`"${name}" is no name for a certificate`);
    if (name === CA && options.host.length > 0) throw wrong("an authority has no --host");
    await (name === CA ? makeCa(options) : issue(name, options));
  });
}

const EXAMPLES = `Examples:
  ringwire cert ca                                  once: ca.pem, ca-key.pem
  ringwire cert device --host lab.example 10.0.0.1  for a device
  ringwire cert alice                               for NICs alice, alice-...
  ringwire device --cert device.pem --key device-key.pem --ca ca.pem
  ringwire frontend --connect wss://HOST:7700 --ca ca.pem --cert alice.pem \\
    --key alice-key.pem
`;

/** Loaded when it is needed: no other command has to do with it. */
async function library() {
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(webcrypto as never);
  return x509;
}

const period = (days: number) => ({
  notBefore: new Date(Date.now() - EARLY_MS),
  notAfter: new Date(Date.now() + days * DAY_MS),
});

const newKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);

async function makeCa(options: Options): Promise<void> {
  const x509 = await library();
  const keys = await newKeys();
  const { BasicConstraintsExtension, KeyUsagesExtension, KeyUsageFlags } = x509;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ name: "CN=ringwire lab", signingAlgorithm: ALGORITHM, keys },
    ...period(options.days ?? CA_DAYS),
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await write(CA, certificate.toString("pem"), keys.privateKey, options);
}

async function issue(name: string, options: Options): Promise<void> {
  const x509 = await library();
  const authority = new x509.X509Certificate(read(join(options.dir, `${CA}.pem`)));
  const keyText = read(join(options.dir, `${CA}-key.pem`));
  const [block] = x509.PemConverter.decode(keyText);
  const signingKey = await webcrypto.subtle.importKey("pkcs8", block!, ALGORITHM, false, ["sign"]);
  const keys = await newKeys();
  const { ExtendedKeyUsage, KeyUsageFlags } = x509;
  const names = options.host.map((host) => ({
    type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const),
    value: host,
  }));
  const certificate = await x509.X509CertificateGenerator.create({
    ...{ subject: `CN=${name}`, issuer: authority.subject, publicKey: keys.publicKey },
    ...{ signingKey, signingAlgorithm: ALGORITHM },
    ...period(options.days ?? DAYS),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // A device that a lab made of hosts shows it as server, a client as client.
      new x509.ExtendedKeyUsageExtension([
        ExtendedKeyUsage.serverAuth,
        ExtendedKeyUsage.clientAuth,
      ]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  await write(name, certificate.toString("pem"), keys.privateKey, options);
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw Failure.from(
      error,
      `${file}: ${messageOf(error)}; make the authority first: ringwire cert ca`,
    );
  }
}

async function write(
  name: string,
  certificate: string,
  privateKey: webcrypto.CryptoKey,
  { dir, force, json }: Options,
): Promise<void> {
  const [file, keyFile] = [join(dir, `${name}.pem`), join(dir, `${name}-key.pem`)];
  for (const path of [file, keyFile]) {
    if (!force && existsSync(path)) throw new Failure(`${path} is there; --force replaces it`);
  }
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", privateKey));
  const lines = key
    .toString("base64")
    .replace(/(.{64})/g, "$1\n")
    .trimEnd();
  try {
    writeFileSync(keyFile, `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`, {
      mode: 0o600,
    });
    writeFileSync(file, `${certificate}\n`);
  } catch (error) {
    throw Failure.from(error, `${dir} can't be written: ${messageOf(error)}`);
  }
  new Output(json).event(`${file} and ${keyFile}`, { event: "certificate", file, key: keyFile });
}
