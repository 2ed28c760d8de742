import { type KernelSource, write } from "../kernel.ts";

/**
 * The buffer that a watched kernel has beside its own: for each site the largest index that was out of bounds, or 0.
 */
export const SITES = "out_of_bounds";

/**
 * Adds a check to each array index of a kernel: the index is compared with the array's length. WebGPU silently clamps
 * an index that is out of bounds, or reads zero. Where Dawn's clamping is turned off (`native/dawn.ts`), such an index
 * does harm. No kernel may have one; these checks find those that do. Arrays are told apart by their names alone.
 *
 * @param first the number of its first site
 * @returns the kernel, and what is subscripted at each of its sites: an array, or the elements of one (`xs[]`)
 */
export function watchIndices(kernel: KernelSource, first: number): { kernel: KernelSource; sites: readonly string[] } {
  const uncommented = (code = "") => code.replace(/\/\/.*/g, "");
  const declarations = uncommented(kernel.declarations), body = uncommented(kernel.body);
  const types = new Map(Object.entries(kernel.buffers).map(([name, { element }]) => [name, `array<${element}>`]));
  for (const [, name, type] of `${declarations}\n${body}`.matchAll(/\bvar(?:<\w+>)? (\w+): (array<.*?>);/g)) {
    types.set(name!, type!);
  }
  const checks: string[] = [], sites: string[] = [], names = new Map<string, string>();

  /**
   * A WGSL function that returns an index unchanged (or the first of several) and records it if it is out of bounds.
   */
  const check = (array: string, depth: number, several: boolean): string => {
    const site = array + "[]".repeat(depth), key = `${site} ${several}`, n = first + sites.length;
    if (names.has(key)) return names.get(key)!;
    const length = lengthsOf(types.get(array)!)[depth];
    // No branch here: with one, compiling takes three times as long.
    checks.push(`var<private> past_${n}: u32;
fn watched_${n}(i: u32${several ? ", count: u32" : ""}) -> u32 {
  let length = ${length === undefined ? `arrayLength(&${array})` : `${length}u`};
  let last = i${several ? " + count - 1u" : ""};
  past_${n} = max(past_${n}, select(0u, last, last >= length));
  return min(i, length - ${several ? "count" : "1u"});
}`);
    sites.push(site);
    names.set(key, `watched_${n}`);
    return `watched_${n}`;
  };

  const subscripted = new RegExp(`(?<![\\w.])(?:${[...types.keys()].join("|")})(?=\\[)`, "g");
  const watchSubscripts = (code: string): string => {
    let out = "", done = 0;
    for (const { 0: array, index } of code.matchAll(subscripted)) {
      if (index < done) continue;
      out += code.slice(done, done = index + array.length);
      for (const [depth, length] of lengthsOf(types.get(array)!).entries()) {
        if (code[done] !== "[") break;
        const end = closing(code, done), subscript = watchSubscripts(code.slice(done + 1, end));
        // Compilers reject a constant index that is past a known length.
        const constant = length !== undefined && /^\d+u?$/.test(subscript);
        out += constant ? `[${subscript}]` : `[${check(array, depth, false)}(u32(${subscript}))]`;
        done = end + 1;
      }
    }
    return out + code.slice(done);
  };

  // A matrix in memory is a set of rows (or columns) that lie a stride apart. All matrices that are stored are results:
  // variables that are declared with their type, or of the only type that there is.
  const all = `${declarations}\n${body}`, result = all.match(/subgroup_matrix_result<.*?>/)?.[0];
  const declared = new Map(
    [...all.matchAll(/\bvar (\w+) = (subgroup_matrix_result<.*?>)/g)].map(([, name, type]) => [name, type]),
  );
  const watchMatrices = (code: string): string =>
    code.replace(
      /(subgroupMatrix(?:Load<(\w+<.*?>), |Store<)(\w+)>\(&(\w+), )(.*?)(, (?:(\w+), )?(\w+)\);)/g,
      (_, head, loaded, order, array, offset, tail, stored, stride) => {
        const [, component, columns, rows] = (loaded ?? declared.get(stored) ?? result).match(/<(\w+), (\d+), (\d+)>/)!;
        const [lines, wide] = order === "row_major" ? [+rows, +columns] : [+columns, +rows];
        const elements = wide * bytesOf(component) / bytesOf(types.get(array)!.match(/^array<(\w+)/)![1]!);
        return `${head}${check(array, 0, true)}(${offset}, ${lines - 1}u * ${stride} + ${elements}u)${tail}`;
      },
    );

  const watch = (code: string) => {
    const watched = watchMatrices(watchSubscripts(code));
    const missed = watched.match(/subgroupMatrix(?:Load|Store)<(?!.*\(&\w+, watched_).*/);
    if (missed) throw new Error(`kernel ${kernel.name}: no check is known of ${missed[0]}`);
    return watched;
  };
  // A kernel that returns early must report its findings, too.
  const inner = `fn watched_main(gid: vec3u, lid: vec3u, li: u32, wid: vec3u, nwg: vec3u) {\n${watch(body)}\n}`;
  const outer = sites.map((_, i) => first + i).map((n) =>
    `  if (past_${n} > 0u) { atomicMax(&${SITES}[${n}], past_${n}); }`
  );
  return {
    kernel: {
      ...kernel,
      buffers: { ...kernel.buffers, [SITES]: write("atomic<u32>") },
      declarations: [watch(declarations), ...checks, inner].join("\n"),
      body: ["  watched_main(gid, lid, li, wid, nwg);", ...outer].join("\n"),
    },
    sites,
  };
}

/** The lengths in `array<array<vec4f, 9>, 16>`: 16, 9, 4. A length is undefined where the buffer's size decides it. */
function lengthsOf(type: string): readonly (number | undefined)[] {
  const vector = type.match(/^vec(\d)/);
  if (vector) return [Number(vector[1])];
  const array = type.match(/^array<(.*?)(?:, (\d+))?>$/);
  return array ? [array[2] === undefined ? undefined : Number(array[2]), ...lengthsOf(array[1]!)] : [];
}

/** The bytes of a scalar or a vector. */
function bytesOf(type: string): number {
  const [, count, scalar] = type.match(/^(?:vec(\d))?(\w+)$/)!;
  return Number(count ?? 1) * ({ i8: 1, u8: 1, f16: 2, h: 2 }[scalar!] ?? 4);
}

/** The position of the bracket that closes the one at `open`. */
function closing(code: string, open: number): number {
  for (let at = open, depth = 0;; at++) {
    if (code[at] === "[") depth++;
    if (code[at] === "]" && --depth === 0) return at;
  }
}
