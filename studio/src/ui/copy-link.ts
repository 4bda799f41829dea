/** Puts a link into the clipboard, and says whether it is there. */

import { tell, warn } from "../state/toasts";

export async function copyLink(link: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(link);
    tell("The link is in your clipboard.");
  } catch {
    warn("The link could not be copied.", "Select it and copy it by hand.");
  }
}
