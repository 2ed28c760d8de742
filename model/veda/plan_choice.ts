import { type TileShape, type TileShapes, uniformShapes } from "./tile_shapes.ts";

/** The result of a search: errors ‖O_sparse − O_full‖² / ‖O_full‖², [layers][heads][shapes]. */
export interface SearchTable {
  readonly shapes: readonly TileShape[];
  /** Means over all states. */
  readonly errors: readonly (readonly Float64Array[])[];
  /** The number of states in which each shape was the best. */
  readonly votes: readonly (readonly Uint32Array[])[];
}

/**
 * Each head's shape by the errors that a search measured, as an index into the table's shapes: the one with the most
 * votes; ties go to the smaller error. If a layer would need more than `most` shapes, those that most heads chose
 * remain, and the other heads take the best of them.
 */
export function choosePlan({ shapes, errors, votes }: SearchTable, most: number): TileShapes {
  const choices = votes.map((byHead, layer) => {
    const best = (head: number, among: readonly number[]) =>
      among.reduce((a, b) => {
        const more = byHead[head]![b]! - byHead[head]![a]!;
        return more > 0 || more === 0 && errors[layer]![head]![b]! < errors[layer]![head]![a]! ? b : a;
      });
    const all = [...shapes.keys()];
    const first = byHead.map((_, head) => best(head, all));
    const wanted = all.map((shape) => first.filter((own) => own === shape).length);
    // Equal counts keep their order, because sorting is stable.
    const left = all.filter((shape) => wanted[shape]! > 0).sort((a, b) => wanted[b]! - wanted[a]!).slice(0, most);
    return first.map((own, head) => left.includes(own) ? own : best(head, left));
  });
  const used = [...shapes.keys()].filter((shape) => choices.some((layer) => layer.includes(shape)));
  return {
    shapes: used.map((shape) => shapes[shape]!),
    choices: choices.map((layer) => Uint8Array.from(layer, (shape) => used.indexOf(shape))),
  };
}

/**
 * Each head's budget by the errors that a search measured, so that the mean error is the least and the mean budget at
 * most 1: every head has the budget that is the best at one price for more of it.
 *
 * @param errors [layers][heads][budgets]
 * @param budgets the possible budgets, in rising order, one of them at most 1
 * @returns [layers][heads]
 */
export function chooseBudgets(
  errors: readonly (readonly ArrayLike<number>[])[],
  budgets: readonly number[],
): Float32Array[] {
  const all = errors.flat(),
    mean = (picks: readonly number[]) => picks.reduce((sum, pick) => sum + budgets[pick]!, 0) / picks.length;
  const at = (price: number) => all.map((own) => leastOf(budgets.map((budget, i) => own[i]! + price * budget)));
  let [low, high] = [0, 1];
  while (mean(at(high)) > 1) high *= 2;
  // At a price of 0 each head has what is best for it alone.
  if (mean(at(low)) <= 1) high = low;
  for (let round = 0; round < 60 && high > low; round++) {
    const middle = (low + high) / 2;
    if (mean(at(middle)) > 1) low = middle;
    else high = middle;
  }
  const picks = at(high), heads = errors[0]!.length;
  return errors.map((_, layer) =>
    Float32Array.from({ length: heads }, (_, head) => budgets[picks[layer * heads + head]!]!)
  );
}

/** The mean error over layers and heads, for a plan of the table's shapes. */
export function meanError({ shapes, errors }: SearchTable, plan: TileShapes): number {
  const places = plan.shapes.map((shape) => shapes.findIndex((other) => String(other) === String(shape)));
  const all = errors.flatMap((byHead, layer) =>
    byHead.map((byShape, head) => byShape[places[plan.choices[layer]![head]!]!]!)
  );
  return all.reduce((a, b) => a + b) / all.length;
}

/** The single shape that is best for all heads together. */
export function bestSingle(table: SearchTable): TileShape {
  const { shapes, errors } = table, size = { layers: errors.length, heads: errors[0]!.length };
  return shapes[leastOf(shapes.map((shape) => meanError(table, uniformShapes(shape, size))))]!;
}

/** The index of the smallest number; the first of equal ones. */
export function leastOf(numbers: readonly number[]): number {
  return numbers.reduce((best, x, i) => x < numbers[best]! ? i : best, 0);
}
