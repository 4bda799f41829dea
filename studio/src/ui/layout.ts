/** How many columns show equal 16:9 tiles as large as the space allows. */

const RATIO = 16 / 9;

export function bestColumns(width: number, height: number, tiles: number, gap: number): number {
  let best = 1;
  let widest = 0;
  for (let columns = 1; columns <= Math.max(1, tiles); columns += 1) {
    const rows = Math.ceil(tiles / columns);
    const across = (width - gap * (columns - 1)) / columns;
    const down = ((height - gap * (rows - 1)) / rows) * RATIO;
    const tile = Math.min(across, down);
    if (tile > widest) {
      widest = tile;
      best = columns;
    }
  }
  return best;
}

/** The tile width that goes with `bestColumns`, pixels. */
export function tileWidth(width: number, height: number, tiles: number, gap: number): number {
  const columns = bestColumns(width, height, tiles, gap);
  const rows = Math.ceil(Math.max(1, tiles) / columns);
  const across = (width - gap * (columns - 1)) / columns;
  const down = ((height - gap * (rows - 1)) / rows) * RATIO;
  return Math.max(0, Math.floor(Math.min(across, down)));
}
