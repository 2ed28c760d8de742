/**
 * The interface of a tokenizer's model, which splits a text into pieces of its vocabulary. Each kind is a file beside
 * this one.
 *
 * @module
 */

/** Turns text into ids of a vocabulary. */
export interface TokenizerModel {
  /** The id of what the vocabulary does not have; undefined if it can spell everything. */
  readonly unknownId: number | undefined;
  /** The id of a piece, if the vocabulary has it. */
  idOf(piece: string): number | undefined;
  /** The ids of a text that was normalized and split. */
  encode(text: string): number[];
}
