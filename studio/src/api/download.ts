/** Saving a file that only a bearer token opens: a plain link cannot send one. */

/** Larger files go straight to the disk where the browser allows it, instead of through memory. */
const MEMORY_LIMIT_BYTES = 256_000_000;

interface SaveWindow {
  showSaveFilePicker(options: { suggestedName: string }): Promise<{ createWritable(): Promise<WritableStream> }>;
}

/** `progress` is told shares of `size`, 0 to 1. A person who cancels the save dialog gets no file and no error. */
export async function save(
  name: string,
  size: number,
  open: () => Promise<Response>,
  progress: (share: number) => void,
): Promise<void> {
  if (size > MEMORY_LIMIT_BYTES && "showSaveFilePicker" in window) {
    let target: WritableStream;
    try {
      target = await (await (window as unknown as SaveWindow).showSaveFilePicker({ suggestedName: name })).createWritable();
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return;
      throw error;
    }
    const { body } = await open();
    await body?.pipeThrough(counting(size, progress)).pipeTo(target);
    return;
  }
  const { body } = await open();
  if (body === null) return;
  const blob = await new Response(body.pipeThrough(counting(size, progress))).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has its own hold on the blob by then; a minute is generous.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file name any system takes. */
export function fileName(title: string, part: number): string {
  const plain = title.replace(/[^\p{L}\p{N} ._-]+/gu, "").trim().slice(0, 80) || "recording";
  return part > 1 ? `${plain} (part ${part}).mp4` : `${plain}.mp4`;
}

function counting(size: number, progress: (share: number) => void): TransformStream<Uint8Array, Uint8Array> {
  let seen = 0;
  return new TransformStream({
    transform(chunk, controller) {
      seen += chunk.byteLength;
      progress(size > 0 ? Math.min(1, seen / size) : 0);
      controller.enqueue(chunk);
    },
  });
}
