/**
 * The command line with clips that are kept after every step, however short they are: `keep_every_step.ts generate ...`.
 *
 * @module
 */
import { SAVING } from "../cli/generate/unfinished.ts";
import { main } from "../cli/program.ts";
import { handleSignals } from "../tools/program/signals.ts";

handleSignals((status) => Deno.exit(status));
Object.assign(SAVING, { clipTakes: 0, every: 0, read: 0 });
Deno.exit(await main(Deno.args));
