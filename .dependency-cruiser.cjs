// The import rules: `npm run imports`.
//
// The parser's visitor does not know `using` declarations yet. They import nothing, so it only has
// to walk through their initialisers.
const { Visitor } = require("@swc/core/Visitor");

const { visitStatement } = Visitor.prototype;
Visitor.prototype.visitStatement = function (statement) {
  if (statement.type !== "UsingDeclaration") return visitStatement.call(this, statement);
  this.visitVariableDeclarators(statement.decls);
  return statement;
};

module.exports = {
  forbidden: [
    {
      name: "shared-knows-nobody",
      comment: "shared is what both sides stand on; it can't stand on either of them.",
      severity: "error",
      from: { path: "^shared/" },
      to: { path: "^(cli|device|frontend|test)/" },
    },
    {
      name: "device-knows-only-shared",
      comment: "Only the wire joins device and frontend.",
      severity: "error",
      from: { path: "^device/" },
      to: { path: "^(cli|frontend|test)/" },
    },
    {
      name: "frontend-knows-only-shared",
      comment: "Only the wire joins device and frontend.",
      severity: "error",
      from: { path: "^frontend/" },
      to: { path: "^(cli|device|test)/" },
    },
    {
      name: "cli-is-not-tested-from-inside",
      comment: "Product code never needs a test.",
      severity: "error",
      from: { path: "^cli/" },
      to: { path: "^test/" },
    },
    {
      name: "rooms-apart",
      comment: "ena and xen don't know each other; what they have in common is one level up.",
      severity: "error",
      from: { path: "^(device|frontend|shared)/(ena|xen)/" },
      to: { path: "^$1/(ena|xen)/", pathNot: "^$1/$2/" },
    },
    {
      name: "bus-dma-xen-by-its-header",
      comment: "N24: the driver uses what bus_dma for Xen publishes, and nothing behind it.",
      severity: "error",
      from: { path: "^frontend/xen/[^/]+$" },
      to: { path: "^frontend/xen/bus-dma-xen/", pathNot: "/index\\.ts$" },
    },
    {
      name: "bus-dma-xen-knows-only-grants",
      comment: "N24: bus_dma for Xen uses the grant table, and knows nothing of the driver.",
      severity: "error",
      from: { path: "^frontend/xen/bus-dma-xen/" },
      to: { path: "^frontend/xen/[^/]+$", pathNot: "/grant-table\\.ts$" },
    },
    {
      name: "ws-in-one-file",
      comment: "The transport is an interface; one file knows that it is a WebSocket from npm.",
      severity: "error",
      from: {
        path: "^(cli|device|frontend|shared)/",
        pathNot: "^shared/transport/websocket\\.ts$",
      },
      to: { path: "(^|/)node_modules/(@types/)?ws/|^ws$" },
    },
    {
      name: "services-packages-in-their-room",
      comment: "Only the services of a segment know DNS and addresses in text.",
      severity: "error",
      from: { path: "^(cli|device|frontend|shared)/", pathNot: "^device/services/" },
      to: { path: "(^|/)node_modules/(@types/)?(dns-packet|@leichtgewicht)/" },
    },
    {
      name: "services-know-only-the-port",
      comment: "The services are one host on a port, and know nothing of connections and NICs.",
      severity: "error",
      from: { path: "^device/services/" },
      to: { path: "^device/", pathNot: "^device/(services/|switch/port\\.ts$)" },
    },
    {
      name: "system-calls-in-two-rooms",
      comment: "Foreign functions can crash the process, so few files may call them.",
      severity: "error",
      from: { path: "^(cli|device|frontend|shared)/", pathNot: "^shared/(reactor|capture)/" },
      to: { path: "(^|/)node_modules/koffi/|^koffi$" },
    },
    {
      name: "no-dev-dependency-in-product",
      comment: "An installed ringwire has no dev dependencies.",
      severity: "error",
      from: { path: "^(cli|device|frontend|shared)/" },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"] },
    },
    {
      name: "not-resolvable",
      comment: "An import that can't be found can't be judged by the rules above.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: "no-circular",
      comment: "A cycle of values has no order in which to load. Types may look back.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
  ],
  options: {
    parser: "swc",
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^dist/" },
    enhancedResolveOptions: {
      extensions: [".ts", ".js", ".json"],
      exportsFields: ["exports"],
      conditionNames: ["node", "import", "default"],
    },
    cache: false,
  },
};
