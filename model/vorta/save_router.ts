import type { Grid } from "../attention/grid.ts";
import { othersPrefix } from "../attention/sizes.ts";
import { check, checkPath, instance } from "../../gpu/common/check_options.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { Router } from "./router.ts";
import { ROUTER_KEY, type RouterOfSize } from "./router_file.ts";
import { SETTINGS_KEY, settingsMetadata, type SettingsOfGrids, settingsToKwargs } from "./settings.ts";

/** What a router's file says of sizes. */
interface SizesOfRouter {
  readonly grids?: readonly Grid[];
  readonly others?: readonly RouterOfSize[];
  readonly denseShare?: number;
}

/**
 * Writes a router as safetensors. The file appears only when it is complete.
 *
 * @param settings those of each grid are not written
 * @param metadata additional metadata beside the settings
 * @param grids the tokens of the clips that it was trained on, of every size
 * @param others routers for clips of other sizes
 * @param denseShare the share of a clip's first steps that have full attention by default, see `RouterOfSize`
 * @throws {TilereelError} if the file cannot be written, or there is a share of dense steps without grids.
 */
export async function saveRouter(
  path: string,
  router: Router,
  settings: SettingsOfGrids,
  metadata: Readonly<Record<string, string>> = {},
  { grids = [], others = [], denseShare = 0 }: SizesOfRouter = {},
): Promise<void> {
  checkPath("saveRouter: path", path);
  check("saveRouter: the router", router, instance(Router, "a Router"));
  if (denseShare > 0 && grids.length === 0) {
    throw new TilereelError("saveRouter: denseShare is said for clips of the grids, and none was given");
  }
  const tensors = tensorsOf(router), parts = [...Map.groupBy(others, ({ router }) => router)];
  for (const [i, [other]] of parts.entries()) Object.assign(tensors, tensorsOf(other, othersPrefix(i)));
  const share = (share = 0) => share > 0 && { dense_share: share };
  const known = {
    grids,
    ...share(denseShare),
    ...parts.length > 0 && {
      others: parts.map(([, sizes]) => ({
        grids: sizes.map(({ grid }) => grid),
        ...share(sizes[0]!.denseShare),
        ...sizes[0]!.settings && { [SETTINGS_KEY]: settingsToKwargs(sizes[0]!.settings) },
      })),
    },
  };
  await writeSafetensors(path, tensors, {
    ...metadata,
    ...settingsMetadata(settings),
    ...grids.length + parts.length > 0 && { [ROUTER_KEY]: JSON.stringify(known) },
  });
}

function tensorsOf(router: Router, prefix = ""): Record<string, TensorToWrite> {
  return Object.fromEntries(
    [...router.parameters()].map(([name, tensor]) => [prefix + name, { dtype: "F32", ...tensor }]),
  );
}
