/** Writes lines to both outputs, as a part of a lab does: as many megabytes as the argument says. */
import { boundOutput } from "../../cli/lab/bounded.ts";

boundOutput();
const line = `${"x".repeat(99)}\n`;
for (let i = 0; i < Number(process.argv[2]) * 10_000; i++) {
  process.stdout.write(line);
  process.stderr.write(line);
}
process.stdout.write("last\n");
