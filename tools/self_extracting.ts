import { createHash } from "node:crypto";
import { join } from "node:path";
import { writeAtomically } from "../model/files/output.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { archiveOf, RUN_FLAGS } from "./stage_program.ts";

/**
 * Makes `out` of the program in `folder` and this Deno: a shell script with an archive behind it. It needs sh, tail,
 * tar and gzip, and this operating system and architecture, where it runs. The same program gives the same bytes.
 *
 * @throws {TilereelError} on Windows, which has no sh
 */
export async function writeSelfExtracting(folder: string, out: string): Promise<void> {
  if (Deno.build.os === "windows") throw new TilereelError("a self-extracting executable cannot be made on Windows");
  const deno = join(folder, "deno");
  await Deno.copyFile(Deno.execPath(), deno);
  await Deno.chmod(deno, 0o755);
  const entries = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  const { archive: payload, unpackedBytes } = await archiveOf(folder, entries);
  const header = new TextEncoder().encode(launcher(payload, unpackedBytes));
  await writeAtomically(out, async (temporary) => {
    await Deno.writeFile(temporary, header, { mode: 0o755 });
    await Deno.writeFile(temporary, payload, { append: true });
  });
}

/** The script in front of the payload. */
function launcher(payload: Uint8Array, unpackedBytes: number): string {
  const id = createHash("sha256").update(payload).digest("hex").slice(0, 20);
  const unknownOffset = "0".repeat(8);
  const script = `#!/bin/sh
# tilereel, self-extracting: unpacks what follows this script once, into the user's cache folder, and runs it.
set -u
usual=$(umask)
umask 077
fail() {
  echo "tilereel: $1" >&2
  exit 1
}
base=\${XDG_CACHE_HOME:-\${HOME:+$HOME/.cache}}
base=\${base:+$base/tilereel}
program=$base/${id}
if [ ! -f "$program/tilereel.js" ]; then
  if [ -z "$base" ] || ! mkdir -p "$base" 2>/dev/null || [ ! -w "$base" ]; then
    # No home, or one that cannot be written. Others can write into the folder of temporary files, so what lies there
    # is only trusted when it is ours.
    base=\${TMPDIR:-/tmp}/tilereel-$(id -u)
    mkdir -p "$base" 2>/dev/null
    [ -d "$base" ] && [ ! -L "$base" ] && [ -O "$base" ] && [ -w "$base" ] ||
      fail "found no folder to unpack into; set XDG_CACHE_HOME to one that can be written"
    program=$base/${id}
  fi
fi
if [ ! -f "$program/tilereel.js" ]; then
  unpacking=$base/.${id}.$$
  trap 'rm -rf "$unpacking"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  mkdir "$unpacking" && tail -c +${unknownOffset} "$0" | tar -xzf - -C "$unpacking" && [ -f "$unpacking/tilereel.js" ] ||
    fail "cannot unpack into $base, which needs ${
    Math.ceil(unpackedBytes / 1e6)
  } MB; free some space or set XDG_CACHE_HOME to another folder"
  # Someone else may have been quicker; then theirs is used.
  [ -d "$program" ] || mv "$unpacking" "$program" || fail "cannot unpack into $base"
  rm -rf "$unpacking" "$program/.${id}.$$"
  trap - EXIT INT TERM
fi
umask "$usual"
export DENO_DIR="$program/.deno" DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
exec "$program/deno" run --quiet ${
    RUN_FLAGS.join(" ")
  } --no-config --no-lock --no-remote --cached-only "$program/tilereel.js" "$@"
`;
  // tail counts from 1.
  const offset = String(new TextEncoder().encode(script).length + 1).padStart(unknownOffset.length, "0");
  return script.replace(unknownOffset, offset);
}
