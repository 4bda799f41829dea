/** The binary header of canvas frames (docs/PROTOCOL.md section 3.3). */

export type CanvasFormat = "h264" | "vp8" | "jpeg" | "webp" | "png" | "rgba";

export interface CanvasFrame {
  format: CanvasFormat;
  /** Of H.264 and VP8: it builds on no other. */
  key: boolean;
  width: number;
  height: number;
  /** When it was drawn, of a clock that does not jump. */
  timestampUs: number;
  data: Uint8Array;
}

export const HEADER = 20;

const VERSION = 1;
const NUMBERS: Record<CanvasFormat, number> = { h264: 1, vp8: 2, jpeg: 3, webp: 4, png: 5, rgba: 6 };

export function pack(frame: CanvasFrame): ArrayBuffer {
  const message = new ArrayBuffer(HEADER + frame.data.byteLength);
  const header = new DataView(message);
  header.setUint8(0, VERSION);
  header.setUint8(1, NUMBERS[frame.format]);
  header.setUint8(2, frame.key && (frame.format === "h264" || frame.format === "vp8") ? 1 : 0);
  header.setUint16(4, frame.width);
  header.setUint16(6, frame.height);
  header.setBigUint64(8, BigInt(Math.round(frame.timestampUs)));
  header.setUint32(16, frame.data.byteLength);
  new Uint8Array(message, HEADER).set(frame.data);
  return message;
}
