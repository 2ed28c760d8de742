/**
 * The dialect of a WGSL compiler. The standard one requires `enable subgroups;`. naga, Deno's compiler, rejects that
 * line, and knows the built-ins without it.
 */
export type WgslDialect = "standard" | "naga";

/** Types of the scalars in a kernel's uniform block. */
export type ParamType = "u32" | "i32" | "f32";

/** Declares parameters that are all u32. */
export function u32s<N extends string>(...names: readonly N[]): Readonly<Record<N, "u32">> {
  return Object.fromEntries(names.map((name) => [name, "u32"])) as Record<N, "u32">;
}

/**
 * A compute kernel: WGSL with its bindings and parameters declared once, so that the shader's declarations and the
 * checks on what is bound cannot drift apart.
 */
export interface KernelSource {
  /** The kernel's name in error messages, traces and GPU debuggers. */
  readonly name: string;
  /** Storage buffers in binding order: WGSL element type and access. */
  readonly buffers: Readonly<Record<string, Binding>>;
  /** Fields of the uniform block `p`, four bytes each. */
  readonly params: Readonly<Record<string, ParamType>>;
  readonly workgroupSize: readonly [number, number, number];
  /** Module-scope WGSL: workgroup memory, helper functions. */
  readonly declarations?: string;
  /**
   * Body of the entry point. In scope: `p` (parameters), the buffers by name, and the built-ins `gid` (global
   * invocation), `lid` (local invocation), `li` (its index), `wid` (workgroup), `nwg` (number of workgroups).
   */
  readonly body: string;
  /** Needs `enable f16;`. */
  readonly f16?: boolean;
  /** Uses subgroup built-ins. */
  readonly subgroups?: boolean;
  /** Uses matrix units (see `matrix_units.ts`), which implies f16 and subgroups. */
  readonly matrix?: boolean;
}

/** The largest number of workgroups that WebGPU allows along an axis. */
export const MOST_GROUPS = 65535;

/**
 * The dispatch size for `count` workgroups. Where they are too many for x, they are folded onto y, and there may be a
 * few more than asked for. A kernel computes its workgroup's index as `wid.y * nwg.x + wid.x`.
 */
export function folded(groups: number): readonly [number, number, number] {
  return [Math.min(groups, MOST_GROUPS), Math.ceil(groups / MOST_GROUPS), 1];
}

/** One storage buffer of a kernel. */
export interface Binding {
  readonly access: "read" | "read_write";
  /** WGSL type of an element: `f32`, `vec4f`, `u32`, … */
  readonly element: string;
}

/** A read-only storage buffer of `element`s. */
export const read = (element: string): Binding => ({ access: "read", element });
/** A storage buffer of `element`s that the kernel writes. */
export const write = (element: string): Binding => ({ access: "read_write", element });

/** The complete WGSL module of a kernel. */
export function kernelWgsl(kernel: KernelSource, dialect: WgslDialect): string {
  const { f16, subgroups, matrix } = kernel;
  const enabled = [
    ...f16 || matrix ? ["f16"] : [],
    ...(subgroups || matrix) && dialect === "standard" ? ["subgroups"] : [],
    ...matrix ? ["chromium_experimental_subgroup_matrix"] : [],
  ];
  // The address of a subgroup's matrix depends on the subgroup's index, which Tint cannot prove to be uniform. Nor does
  // it know that a vote has the same result in the whole subgroup.
  const diagnostics = matrix
    ? "diagnostic(off, chromium.subgroup_matrix_uniformity);\ndiagnostic(off, subgroup_uniformity);\n"
    : "";
  const fields = Object.entries(kernel.params).map(([name, type]) => `  ${name}: ${type},`).join("\n");
  const buffers = Object.entries(kernel.buffers).map(([name, { access, element }], i) =>
    `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: array<${element}>;`
  ).join("\n");
  return `${enabled.map((name) => `enable ${name};\n`).join("")}${diagnostics}struct Params {
${fields}
}
@group(0) @binding(0) var<uniform> p: Params;
${buffers}
${kernel.declarations ?? ""}
@compute @workgroup_size(${kernel.workgroupSize.join(", ")})
fn main(
  @builtin(global_invocation_id) gid: vec3u,
  @builtin(local_invocation_id) lid: vec3u,
  @builtin(local_invocation_index) li: u32,
  @builtin(workgroup_id) wid: vec3u,
  @builtin(num_workgroups) nwg: vec3u,
) {
${kernel.body}
}
`;
}

/** Writes a kernel's parameters at byte `offset` of `view`, in the order they are declared. */
export function writeParams(
  kernel: KernelSource,
  values: Readonly<Record<string, number>>,
  view: DataView,
  offset: number,
): void {
  for (const [name, type] of Object.entries(kernel.params)) {
    const value = values[name];
    if (value === undefined) throw new Error(`kernel ${kernel.name}: parameter ${name} is missing`);
    if (type === "f32") view.setFloat32(offset, value, true);
    else if (type === "i32") view.setInt32(offset, value, true);
    else view.setUint32(offset, value, true);
    offset += 4;
  }
}

/** Repeats a piece of WGSL. Inner loops are unrolled because naga adds a guard to every loop. */
export function unroll(count: number, line: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => line(i)).join("\n");
}
