import { TilereelError } from "../../gpu/common/errors.ts";
import { path } from "../../tools/program/options.ts";

/** --add-to, of the commands that make files for clips of several sizes. */
export const addToOption = (things: "tiles" | "routers") =>
  path({
    group: "Output",
    value: "FILE",
    help: `Put the ${things} of this file, which are for clips of other sizes, into the result, too. Clips then use ` +
      "those for the nearest size.",
    default: "none",
  });

/** That a file of --add-to does not say for which sizes its tiles or routers are. */
export function withoutSizes(file: string, things: "tiles" | "routers"): TilereelError {
  return new TilereelError(
    `--add-to ${file}: it does not say for clips of which size its ${things} are, because an earlier version` +
      `${things === "tiles" ? " or clips of several sizes" : " or another program"} made it; make it again` +
      `${things === "tiles" ? " with clips of one size" : ""}`,
  );
}
