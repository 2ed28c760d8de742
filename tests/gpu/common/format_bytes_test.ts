import { formatBytes } from "../../../gpu/common/format_bytes.ts";
import { assertEquals } from "@std/assert";

Deno.test("amounts of memory are written with three digits, and never with an exponent", () => {
  const amounts: [number, string][] = [
    [0, "0 bytes"],
    [1, "1 byte"],
    [1023, "1023 bytes"],
    [1024, "1.00 KiB"],
    [128 * 2 ** 20, "128 MiB"],
    [999.6 * 2 ** 20, "1000 MiB"],
    [1023 * 2 ** 20, "1023 MiB"],
    [1.5 * 2 ** 30, "1.50 GiB"],
    [2048 * 2 ** 40, "2048 TiB"],
  ];
  for (const [bytes, written] of amounts) assertEquals(formatBytes(bytes), written);
});
