/**
 * Finds the places of a source file where one small edit changes what the program does.
 *
 * The operators are those of mutation testing: a comparison is shifted by one or inverted, an
 * arithmetic or logical operator is swapped, a condition is fixed, a number is incremented, a
 * statement is removed. Declarations, types, imports and texts of errors are not edited.
 */
import { parseSync } from "@swc/core";

/** One edit: UTF-16 offsets in the source, and the text that replaces the range. */
export interface Site {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** Operator, for the statistics: `compare`, `arithmetic`, `logic`, `condition`, `number`, `removal`. */
  readonly kind: string;
  /** Name of the enclosing function or method; `(module)` outside of all. */
  readonly inFunction: string;
}

/** An edit of a source file, with its line, from 1, and the text that it replaces. */
export interface Edit {
  readonly file: string;
  readonly site: Site;
  readonly line: number;
  /** The line, trimmed. */
  readonly lineText: string;
  readonly was: string;
}

/** Returns every edit of a file with this source. */
export function editsOf(file: string, source: string): Edit[] {
  const lines = source.split("\n");
  return sitesOf(source).map((site) => {
    const line = source.slice(0, site.start).split("\n").length;
    const was = source.slice(site.start, site.end);
    return { file, site, line, lineText: lines[line - 1]!.trim(), was };
  });
}

interface Node {
  readonly type: string;
  readonly span?: { readonly start: number; readonly end: number };
  readonly [key: string]: unknown;
}

const SWAPS: Readonly<Record<string, readonly [kind: string, ...others: string[]]>> = {
  "<": ["compare", "<=", ">="],
  "<=": ["compare", "<", ">"],
  ">": ["compare", ">=", "<="],
  ">=": ["compare", ">", "<"],
  "===": ["compare", "!=="],
  "!==": ["compare", "==="],
  "+": ["arithmetic", "-"],
  "-": ["arithmetic", "+"],
  "*": ["arithmetic", "+"],
  "/": ["arithmetic", "*"],
  "%": ["arithmetic", "+"],
  "&": ["arithmetic", "|"],
  "|": ["arithmetic", "&"],
  "^": ["arithmetic", "&"],
  "<<": ["arithmetic", ">>>"],
  ">>>": ["arithmetic", "<<"],
  ">>": ["arithmetic", "<<"],
  "&&": ["logic", "||"],
  "||": ["logic", "&&"],
  "+=": ["arithmetic", "-="],
  "-=": ["arithmetic", "+="],
  "|=": ["arithmetic", "&="],
  "&=": ["arithmetic", "|="],
};

/** Nodes that don't change what runs, or hold only text. */
const SKIPPED =
  /^(Ts|Import|Export(All|Named)|Throw|TemplateLiteral|TemplateElement|StringLiteral)/;
const FUNCTIONS =
  /^(FunctionDeclaration|FunctionExpression|ClassMethod|PrivateMethod|MethodProperty)$/;

/** Every edit of `source`, in the order of the text. Throws when the source does not parse. */
export function sitesOf(source: string): Site[] {
  // The parser's offsets continue from the last parsed file; the semicolon shows where this file
  // begins.
  const module = parseSync(`;${source}`, { syntax: "typescript", target: "es2024" });
  const base = module.body[0]!.span.start + 1;
  const bytes = Buffer.from(source);
  const sites: Site[] = [];
  const at = (byte: number): number => bytes.subarray(0, byte - base).toString().length;

  const add = (from: number, to: number, text: string, kind: string, inFunction: string): void => {
    sites.push({ start: at(from), end: at(to), text, kind, inFunction });
  };
  const textOf = (node: Node): string =>
    bytes.subarray(node.span!.start - base, node.span!.end - base).toString();

  const between = (left: Node, right: Node, operator: string, inFunction: string): void => {
    const swap = SWAPS[operator];
    if (swap === undefined) return;
    const gap = bytes.subarray(left.span!.end - base, right.span!.start - base).toString();
    const found = gap.indexOf(operator);
    if (found < 0 || gap.slice(0, found).includes("//")) return;
    const from = left.span!.end + Buffer.byteLength(gap.slice(0, found));
    const [kind, ...others] = swap;
    for (const other of others) add(from, from + operator.length, other, kind, inFunction);
  };

  const visit = (node: Node, inFunction: string): void => {
    if (SKIPPED.test(node.type)) return;
    let name = inFunction;
    if (FUNCTIONS.test(node.type)) name = nameOf(node) ?? name;
    if (node.type === "Constructor") name = "constructor";
    if (node.type === "VariableDeclarator") {
      const init = node["init"] as Node | null;
      if (init !== null && /^(Arrow)?Function/.test(init.type)) name = nameOf(node, "id") ?? name;
    }
    switch (node.type) {
      case "BinaryExpression":
        between(node["left"] as Node, node["right"] as Node, node["operator"] as string, name);
        break;
      case "AssignmentExpression":
        between(node["left"] as Node, node["right"] as Node, node["operator"] as string, name);
        break;
      case "IfStatement":
      case "WhileStatement":
      case "ConditionalExpression": {
        const test = node["test"] as Node;
        const { start, end } = test.span!;
        add(start, end, "false", "condition", name);
        if (node.type !== "WhileStatement") add(start, end, "true", "condition", name);
        break;
      }
      case "NumericLiteral":
        if (name !== "(module)")
          add(
            node.span!.start,
            node.span!.end,
            String((node["value"] as number) + 1),
            "number",
            name,
          );
        break;
      case "BooleanLiteral":
        add(node.span!.start, node.span!.end, String(node["value"] !== true), "logic", name);
        break;
      case "UnaryExpression":
        if (node["operator"] === "!")
          add(node.span!.start, node.span!.end, `!!${textOf(node).slice(1)}`, "logic", name);
        break;
      case "UpdateExpression": {
        const text = textOf(node);
        const other = text.includes("++") ? text.replace("++", "--") : text.replace("--", "++");
        add(node.span!.start, node.span!.end, other, "arithmetic", name);
        break;
      }
      case "ExpressionStatement": {
        const expression = (node["expression"] as Node).type;
        // Without super a constructor throws at once, which would say nothing about a test.
        if (!textOf(node).startsWith("super(") && expression !== "StringLiteral")
          add(node.span!.start, node.span!.end, ";", "removal", name);
        break;
      }
      default:
    }
    visitAll(node, name);
  };
  /** Visits nodes below a node, and records that hold nodes (an argument, a method's function). */
  const visitAll = (record: object, name: string): void => {
    for (const value of Object.values(record)) {
      for (const child of Array.isArray(value) ? value : [value]) {
        if (isNode(child)) visit(child, name);
        else if (typeof child === "object" && child !== null) visitAll(child, name);
      }
    }
  };

  for (const item of module.body.slice(1)) visit(item as unknown as Node, "(module)");
  return sites.sort((a, b) => a.start - b.start);
}

function nameOf(node: Node, key?: string): string | undefined {
  const name = (node[key ?? "identifier"] ?? node["key"]) as Node | null | undefined;
  if (name === null || name === undefined) return undefined;
  if (name.type === "PrivateName")
    return `#${String(name["value"] ?? (name["id"] as Node)["value"])}`;
  return typeof name["value"] === "string" ? name["value"] : undefined;
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node).type === "string";
