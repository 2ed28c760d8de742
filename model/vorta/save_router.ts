import { check, checkPath, instance } from "../../gpu/common/check_options.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { Router } from "./router.ts";
import { settingsMetadata, type SettingsOfGrids } from "./settings.ts";

/**
 * Writes a router as safetensors. The file appears only when it is complete.
 *
 * @param settings those of each grid are not written
 * @param metadata additional metadata beside the settings
 * @throws {TilereelError} if the file cannot be written.
 */
export async function saveRouter(
  path: string,
  router: Router,
  settings: SettingsOfGrids,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  checkPath("saveRouter: path", path);
  check("saveRouter: the router", router, instance(Router, "a Router"));
  const tensors = Object.fromEntries(
    [...router.parameters()].map(([name, tensor]) => [name, { dtype: "F32" as const, ...tensor }]),
  );
  await writeSafetensors(path, tensors, { ...metadata, ...settingsMetadata(settings) });
}
