/** A run of dirty bytes. */
export interface BitmapExtent {
  readonly offset: number;
  readonly length: number;
}
