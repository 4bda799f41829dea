/** The studio's own canvas: a title before bars that move with the music. */

const WIDTH = 1280;
const HEIGHT = 720;
const FPS = 30;
const BARS = 48;

/** Below this level in dBFS a bar rests. */
const QUIET = -54;

export interface Show {
  title: string;
  /** Levels of the musicians in dBFS. */
  levels: number[];
}

export class Visuals {
  readonly canvas: HTMLCanvasElement;

  private readonly show: () => Show;
  private readonly pen: CanvasRenderingContext2D | null;
  private readonly heights = new Array<number>(BARS).fill(0);
  private timer: ReturnType<typeof setInterval> | null = null;

  constructor(show: () => Show) {
    this.show = show;
    this.canvas = document.createElement("canvas");
    this.canvas.width = WIDTH;
    this.canvas.height = HEIGHT;
    this.pen = this.canvas.getContext("2d", { alpha: false });
  }

  /** A timer and no animation frame: those rest while the page is in the background, and the broadcast does not. */
  start(): void {
    this.timer ??= setInterval(() => this.draw(performance.now() / 1000), 1000 / FPS);
    this.draw(performance.now() / 1000);
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  private draw(time: number): void {
    const pen = this.pen;
    if (pen === null) return;
    const { title, levels } = this.show();
    const ground = pen.createLinearGradient(0, 0, WIDTH, HEIGHT);
    ground.addColorStop(0, "#1b1512");
    ground.addColorStop(1, "#3a1d14");
    pen.fillStyle = ground;
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    this.bars(pen, levels, time);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = "#fff6ec";
    const size = Math.min(120, (WIDTH * 1.5) / Math.max(8, [...title].length));
    pen.font = `650 ${size}px system-ui, sans-serif`;
    pen.fillText(title, WIDTH / 2, HEIGHT * 0.42, WIDTH * 0.9);
  }

  private bars(pen: CanvasRenderingContext2D, levels: number[], time: number): void {
    const wide = WIDTH / BARS;
    for (let n = 0; n < BARS; n += 1) {
      const level = levels.length === 0 ? QUIET : (levels[n % levels.length] ?? QUIET);
      // Even in silence something moves, so that everybody sees that the picture is alive.
      const share = Math.min(1, Math.max(0.06, 1 - level / QUIET));
      const sway = 0.6 + 0.4 * Math.sin(time * 3 + n * 0.7) * Math.cos(time * 1.3 + n * 0.31);
      const before = this.heights[n] ?? 0;
      const height = before + (share * sway - before) * 0.35;
      this.heights[n] = height;
      const pixels = 10 + height * HEIGHT * 0.5;
      pen.fillStyle = `hsl(${18 + n * 0.6} 90% ${45 + height * 20}%)`;
      pen.fillRect(n * wide + 3, HEIGHT - pixels, wide - 6, pixels);
    }
  }
}
