/** "Did you mean" for words that are not flags on the command line. */
import { Command } from "commander";

/** Returns the word of `words` that the user most likely meant; "" when `word` is like none. */
export function similar(word: string, words: readonly string[]): string {
  // Commander can compare flags but does not export that function. So the words become flags.
  const flags = words.map(flagOf);
  // The same word in another form.
  const same = words[flags.indexOf(flagOf(word))];
  if (same !== undefined) return same;
  const probe = new Command().exitOverride().configureOutput({ outputError: () => {} });
  for (const flag of new Set(flags)) probe.option(flag);
  let said = "";
  try {
    probe.parse([flagOf(word)], { from: "user" });
  } catch (error) {
    said = error instanceof Error ? error.message : "";
  }
  const [, flag = ""] = /Did you mean (?:one of )?(--[a-z0-9-]+)/.exec(said) ?? [];
  return words[flags.indexOf(flag)] ?? "";
}

/** Returns the same flag for RINGWIRE_WHEN_FULL, whenFull and when-full. */
const flagOf = (word: string): string =>
  `--${word
    .replace(/^RINGWIRE_/, "")
    .replace(/([a-z])([A-Z])/g, "$1-$2")
    .replaceAll("_", "-")
    .toLowerCase()}`;
