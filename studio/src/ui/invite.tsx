/** Making an invitation link for one more musician. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Problem } from "../api/problem";
import type { Broadcast } from "../state/broadcast";
import { report } from "../state/toasts";
import { copyLink } from "./copy-link";
import { Dialog } from "./dialog";
import { TextField } from "./fields";
import { Copy, Invite as InviteIcon } from "./icons";

export function Invite({ broadcast, onClose }: { broadcast: Broadcast; onClose(): void }): JSX.Element {
  const [name, setName] = useState("");
  const [link, setLink] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<ReadonlyMap<string, string>>(new Map());

  const make = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setErrors(new Map());
    try {
      const made = await broadcast.invite(name.trim());
      setLink(made);
      await copyLink(made);
    } catch (error) {
      if (error instanceof Problem) setErrors(error.byField());
      report("make the invitation", error);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title="Invite a musician" onClose={onClose} testid="invite-dialog">
      <form onSubmit={(event) => void make(event)}>
        <TextField
          label="Their name"
          testid="invite-name"
          value={name}
          onValue={setName}
          error={errors.get("name")}
          help="Shown to everybody in the room."
          required
          maxLength={64}
        />
        <button class="button primary" type="submit" data-testid="invite-create" disabled={busy || name.trim() === ""}>
          <InviteIcon /> {busy ? "Making the link…" : "Make the link"}
        </button>
      </form>
      {link !== null && (
        <div class="made-link" role="status">
          <label class="field">
            <span>Send this to {name.trim()} only; whoever has it can join.</span>
            <input
              readOnly
              value={link}
              data-testid="invite-link"
              onFocus={(event) => event.currentTarget.select()}
            />
          </label>
          <button class="button" type="button" onClick={() => void copyLink(link)}>
            <Copy /> Copy
          </button>
        </div>
      )}
    </Dialog>
  );
}
