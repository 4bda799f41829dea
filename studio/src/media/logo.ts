/** A picture file made small enough for the gateway: it takes 45 KiB, and the broadcast shows a logo a few hundred pixels wide. */

/** Bytes. */
const MOST = 45 * 1024;

/** The longest side sent, pixels; each next try is smaller. */
const SIDES = [512, 384, 288, 216, 160, 120];

/** Base64 of a PNG; fails for what the browser cannot read as a picture. */
export async function shrunkLogo(file: Blob): Promise<string> {
  const picture = await createImageBitmap(file);
  try {
    for (const side of SIDES) {
      const png = await drawn(picture, side);
      if (png.size <= MOST) return await base64(png);
    }
  } finally {
    picture.close();
  }
  throw new Error("this picture has too much detail for a logo");
}

async function drawn(picture: ImageBitmap, longest: number): Promise<Blob> {
  const share = Math.min(1, longest / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(8, Math.round(picture.width * share));
  canvas.height = Math.max(8, Math.round(picture.height * share));
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser cannot draw");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const png = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (png === null) throw new Error("this browser cannot write a PNG");
  return png;
}

async function base64(blob: Blob): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
