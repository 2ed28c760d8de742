/** The words that the demo model was trained with, in the order of its prompts: see model/demo/README.md. */
export const VOCABULARY = {
  size: ["small", "big"],
  colour: ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "white"],
  shape: ["circle", "square", "triangle", "diamond", "ring", "cross"],
  motion: [
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "bouncing",
    "circling",
    "growing",
    "shrinking",
    "spinning",
    "standing still",
  ],
  pattern: ["striped", "checkered"],
  background: ["black", "gray", "navy", "teal", "maroon"],
} as const;

/** A prompt of random words. */
export function randomPrompt(): string {
  const { size, colour, shape, motion, pattern, background } = VOCABULARY;
  const words = [any(["", ...size]), any(colour), any(shape), any(motion)].filter(Boolean).join(" ");
  const behind = [any(["", "", ...pattern]), any(background)].filter(Boolean).join(" ");
  return `a ${words} on a ${behind} background`;
}

function any<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)]!;
}
