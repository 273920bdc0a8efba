/**
 * HTTP from inside a namespace, many requests for one process: a line {"tag", "url", "body"?} on
 * stdin is a request (POST with a body, else GET), the answer {"tag", "status", "value"} or
 * {"tag", "error"} a line on stdout.
 */
import process from "node:process";
import { createInterface } from "node:readline";

interface Question {
  readonly tag: number;
  readonly url: string;
  readonly body?: object;
}

async function answer({ tag, url, body }: Question): Promise<object> {
  try {
    const init =
      body === undefined
        ? {}
        : {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
          };
    const response = await fetch(url, init);
    return { tag, status: response.status, value: await response.json() };
  } catch (error) {
    return { tag, error: String(error) };
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  void answer(JSON.parse(line) as Question).then((value) => {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  });
});
process.stdout.write('{"ready":true}\n');
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
