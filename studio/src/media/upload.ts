/** Picture files made small enough for the gateway, which takes 45 KiB of each. */

/** Bytes. */
const MOST = 45 * 1024;

interface Form {
  type: "image/png" | "image/jpeg";
  /** The longest side, pixels. */
  side: number;
  quality?: number;
}

/** What is tried one after the other until it is small enough: the broadcast shows a logo a few hundred pixels wide. */
const LOGO: Form[] = [512, 384, 288, 216, 160, 120].map((side) => ({ type: "image/png", side }));

/** A picture behind others is seen in pieces, and may be softer than they are. */
const BACKDROP: Form[] = [1280, 1024, 800, 640].flatMap((side) =>
  [0.85, 0.7, 0.5].map((quality): Form => ({ type: "image/jpeg", side, quality })),
);

/** Base64 of a PNG; fails for what the browser cannot read as a picture. */
export const shrunkLogo = (file: Blob): Promise<string> => shrunk(file, LOGO);

/** Base64 of a JPEG; fails for what the browser cannot read as a picture. */
export const shrunkBackdrop = (file: Blob): Promise<string> => shrunk(file, BACKDROP);

async function shrunk(file: Blob, forms: Form[]): Promise<string> {
  const picture = await createImageBitmap(file);
  try {
    for (const form of forms) {
      const blob = await drawn(picture, form);
      if (blob.size <= MOST) return await base64(blob);
    }
  } finally {
    picture.close();
  }
  throw new Error("this picture has too much detail");
}

async function drawn(picture: ImageBitmap, { type, side, quality }: Form): Promise<Blob> {
  const share = Math.min(1, side / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(8, Math.round(picture.width * share));
  canvas.height = Math.max(8, Math.round(picture.height * share));
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser cannot draw");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, type, quality));
  if (blob === null) throw new Error("this browser cannot write pictures");
  return blob;
}

async function base64(blob: Blob): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
