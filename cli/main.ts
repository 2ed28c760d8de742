/**
 * Starts the program, in a thread that has the rights of its command and no others (`rights/`). This thread has all
 * rights that Deno was given, so it loads no packages, reads no files' contents and computes nothing.
 *
 * @module
 */
import { variable } from "../gpu/common/environment.ts";
import { quoted } from "../gpu/common/errors.ts";
import { SYSTEM } from "../gpu/native/processes.ts";
import { workerUrl } from "../model/embedded.ts";
import { isNotAllowed, systemReason } from "../model/files/file_error.ts";
import { removeLinkerVariables } from "./rights/linker_variables.ts";
import { answer, type BundledStudio, type FromThread } from "./rights/messages.ts";
import { rightsOf } from "./rights/rights.ts";

/** Exit statuses, as those of the program. */
const USER_ERROR = 1, BUG = 70;

const thread = startThread();
thread.onmessage = async ({ data }: MessageEvent<FromThread>) => {
  if ("exit" in data) Deno.exit(data.exit);
  if ("isRunning" in data) answer(data.reply, SYSTEM.isRunning(...data.isRunning));
  else if ("self" in data) answer(data.reply, SYSTEM.self());
  else {
    const { bundleStudio } = await import("./serve/bundle_studio.ts");
    const answer: Promise<BundledStudio> = bundleStudio().then(
      (script) => ({ script }),
      (error) => ({ error: String(error.message) }),
    );
    thread.postMessage(await answer);
  }
};
thread.onerror = (event) => {
  event.preventDefault();
  console.error(`tilereel: ${event.message}\nThis is a bug in tilereel; please report it.`);
  Deno.exit(BUG);
};

function startThread(): Worker {
  try {
    enterFolder();
    const permissions = rightsOf(Deno.args);
    if (permissions.run) removeLinkerVariables();
    return new Worker(workerUrl("cli/rights/thread.ts"), { type: "module", deno: { permissions } });
  } catch (error) {
    if (!isNotAllowed(error)) throw error;
    console.error(
      "tilereel: Deno was started with too few rights: use -A, of which a command gets what it needs alone",
    );
    Deno.exit(USER_ERROR);
  }
}

/** Tasks run in the checkout, wherever they are called from. */
function enterFolder(): void {
  const folder = variable("TILEREEL_CWD");
  if (!folder) return;
  try {
    Deno.chdir(folder);
  } catch (error) {
    const reason = isNotAllowed(error) ? undefined : systemReason(error);
    if (reason === undefined) throw error;
    console.error(
      `tilereel: TILEREEL_CWD names ${quoted(folder)}, which cannot be entered (${reason}): name a folder, or unset it`,
    );
    Deno.exit(USER_ERROR);
  }
}
