// Example plugin `npmrc`: lines of the setting `options` into a block of the guest's `.npmrc`.

import { log } from "cove:hooks/log@0.2.0";

/** Keys that hold secrets, which a setting is no place for. */
const SECRET = /_auth|_password|authtoken/i;

/** An error as the contract has it: what is thrown is what the user reads. */
function refusal(message) {
  return { code: "bad-argument", message, retryable: false };
}

/** The hook point, in camel case. */
export const prepareWorkDisk = {
  run(machine, disk, files, git, settings, state) {
    const options = settings.texts("options") ?? [];
    for (const option of options) {
      if (!/^[\w@:./-]+=[^\n]*$/.test(option)) {
        throw refusal(`\`${option}\` is not a line such as \`fund=false\``);
      }
      if (SECRET.test(option.split("=", 1)[0])) {
        throw refusal("a token does not belong in a setting: log in inside the guest");
      }
    }
    const block = options.map((option) => `${option}\n`).join("");
    disk.ensureBlock(".npmrc", 0o600, "cove npmrc", block, "end");
    log("info", `npm has ${options.length} options in ${machine.name()}`);
  },
};
