// Makes a component of a module: node componentize.mjs SOURCE WIT WORLD COMPONENT
//
// It lies beside the `node_modules` with `@bytecodealliance/componentize-js`, where node looks for it.

import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, wit, world, place] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath: resolve(source),
  witPath: resolve(wit),
  worldName: world,
  // What cove's hosts do not have. Output stays: a stack trace goes to the log of the run.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(place, component);
