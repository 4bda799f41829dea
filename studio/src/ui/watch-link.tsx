/** Where anybody may watch the broadcast over HLS, to be copied. */

import type { JSX } from "preact";

import { copyLink } from "./copy-link";
import { Copy } from "./icons";

export function WatchLink({ url }: { url: string }): JSX.Element {
  return (
    <div class="made-link">
      <label class="field">
        <span>Watch link (HLS): whoever has it can watch.</span>
        <input readOnly value={url} data-testid="watch-link" onFocus={(event) => event.currentTarget.select()} />
      </label>
      <button class="button" type="button" data-testid="copy-watch-link" onClick={() => void copyLink(url)}>
        <Copy /> Copy
      </button>
    </div>
  );
}
