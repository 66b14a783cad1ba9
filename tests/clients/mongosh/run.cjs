// Runs scenario.js in mongosh. usage: MONGOSH=path node run.cjs URI
// A home of its own keeps mongosh from writing to, or reading from, the user's.
"use strict";

const { spawnSync } = require("node:child_process");
const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");

const home = mkdtempSync(join(tmpdir(), "mongosh-"));
try {
  const script = join(__dirname, "scenario.js");
  const ended = spawnSync(
    process.execPath,
    [process.env.MONGOSH, process.argv[2], "--quiet", "--norc", "--file", script],
    { env: { ...process.env, HOME: home }, stdio: ["ignore", "inherit", "inherit"] },
  );
  process.exitCode = ended.status ?? 1;
} finally {
  rmSync(home, { recursive: true, force: true });
}
