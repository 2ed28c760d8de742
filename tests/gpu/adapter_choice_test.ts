import { assertEquals, assertThrows } from "@std/assert";
import { TilereelError } from "../../gpu/common/errors.ts";
import { SOURCES } from "../../gpu/native/open.ts";
import { chooseAdapter } from "../../gpu/open.ts";

const ADAPTERS = [
  { name: "NVIDIA GeForce RTX 4070", software: false },
  { name: "Intel UHD Graphics 1", software: false },
  { name: "llvmpipe (LLVM 15.0)", software: true },
];

Deno.test("--gpu: a number is the adapter that info shows under it, never a part of a name", () => {
  const chosen = (choice: string) => ADAPTERS.indexOf(chooseAdapter(ADAPTERS, choice, SOURCES)) + 1;
  assertEquals(["1", "2", "3", "dawn:2"].map(chosen), [1, 2, 3, 2]);
  assertEquals(["auto", "software", "intel", "rtx 4070", "LLVM 15"].map(chosen), [1, 3, 2, 1, 3]);
  for (const choice of ["0", "4", "15", "4070", "Voodoo"]) {
    assertThrows(
      () => chooseAdapter(ADAPTERS, choice, SOURCES),
      TilereelError,
      `no GPU adapter fits "${choice}": this machine has "NVIDIA GeForce RTX 4070" (1), "Intel UHD Graphics 1" (2), ` +
        `"llvmpipe (LLVM 15.0)" (3); give a number, a part of a name, or "auto"`,
    );
  }
});
