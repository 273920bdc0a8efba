import { expect, test } from "vitest";
import { knownSurvivor, knownSurvivors } from "../mutants/known-survivors.ts";
import { sitesOf } from "../mutants/sites.ts";

const edits = (source: string): string[] =>
  sitesOf(source).map(
    ({ start, end, text, inFunction }) =>
      `${inFunction}: ${source.slice(0, start)}[${text}]${source.slice(end)}`,
  );

test("an edit replaces the operator, and not the same sign in a comment or in a type", () => {
  expect(edits("const f = (a: 1 | 2) => a /* < é */ < b;")).toEqual([
    "f: const f = (a: 1 | 2) => a /* [<=] é */ < b;",
    "f: const f = (a: 1 | 2) => a /* [>=] é */ < b;",
  ]);
});

test("conditions, numbers, negations and statements, by method", () => {
  const source = "class A { #go() { if (!x) y(7); } }";
  expect(edits(source)).toEqual([
    "#go: class A { #go() { if ([false]) y(7); } }",
    "#go: class A { #go() { if ([true]) y(7); } }",
    "#go: class A { #go() { if ([!!x]) y(7); } }",
    "#go: class A { #go() { if (!x) [;] } }",
    "#go: class A { #go() { if (!x) y([8]); } }",
  ]);
});

test("what is thrown and what is only words stays", () => {
  expect(edits("function f() { throw new Error(names[a + 1]); }")).toEqual([]);
});

test("the same text on another line of the function is no known survivor", () => {
  const { file, inFunction, line, was, becomes } = knownSurvivors[0]!;
  const site = { start: 0, end: 0, text: becomes, kind: "", inFunction };
  expect(knownSurvivor({ file, site, lineText: line, was })).toBe(knownSurvivors[0]);
  expect(knownSurvivor({ file, site, lineText: `${line} `, was })).toBe(undefined);
});
