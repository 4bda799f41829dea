/** Choosing where the programme goes, and adding places to send it to. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Problem } from "../api/problem";
import type { Destination, Platform } from "../api/types";
import type { Broadcast } from "../state/broadcast";
import { report } from "../state/toasts";
import { Dialog } from "./dialog";
import { FieldError, Select, TextField } from "./fields";
import { Key, Plus, Trash } from "./icons";

export function Destinations({ broadcast, error }: { broadcast: Broadcast; error: string | undefined }): JSX.Element {
  const [adding, setAdding] = useState(false);
  const [changing, setChanging] = useState<{ destination: Destination; what: "key" | "remove" } | null>(null);
  const destinations = broadcast.destinations.value;
  const titles = new Map(broadcast.platforms.value.map((platform) => [platform.name, platform.title]));
  return (
    <section class="destinations" aria-label="Destinations">
      <div class="section-head">
        <h3>Destinations</h3>
        <button class="button small" type="button" data-testid="add-destination" onClick={() => setAdding(true)}>
          <Plus /> Add
        </button>
      </div>
      <FieldError text={error} />
      {destinations === null && <p class="quiet">Reading the list…</p>}
      {destinations?.length === 0 && (
        <p class="quiet">None yet. Add X, YouTube, Twitch or any RTMP server, then go live to all of them at once.</p>
      )}
      <ul class="destination-list">
        {destinations?.map((destination) => (
          <li key={destination.id} class="destination">
            <label class="pick">
              <input
                type="checkbox"
                data-testid="destination-pick"
                checked={broadcast.picked.value.has(destination.id)}
                onChange={(event) => broadcast.pick(destination.id, event.currentTarget.checked)}
              />
              <span class="pick-text">
                <span class="pick-name">{destination.name}</span>
                <span class="quiet">
                  {titles.get(destination.platform) ?? destination.platform} ·{" "}
                  <span class="key-hint">key {destination.key_hint}</span>
                </span>
              </span>
            </label>
            <button
              class="button icon-only ghost"
              type="button"
              aria-label={`New key for ${destination.name}`}
              title="New key"
              onClick={() => setChanging({ destination, what: "key" })}
            >
              <Key />
            </button>
            <button
              class="button icon-only ghost"
              type="button"
              aria-label={`Remove ${destination.name}`}
              title="Remove"
              onClick={() => setChanging({ destination, what: "remove" })}
            >
              <Trash />
            </button>
          </li>
        ))}
      </ul>
      {adding && <AddDestination broadcast={broadcast} onClose={() => setAdding(false)} />}
      {changing?.what === "key" && (
        <NewKey broadcast={broadcast} destination={changing.destination} onClose={() => setChanging(null)} />
      )}
      {changing?.what === "remove" && (
        <Dialog title={`Remove ${changing.destination.name}?`} onClose={() => setChanging(null)}>
          <p>Its stream key is forgotten too. You can add it again with the key from the platform.</p>
          <div class="row end">
            <button class="button" type="button" onClick={() => setChanging(null)}>
              Keep it
            </button>
            <button
              class="button danger"
              type="button"
              onClick={() => {
                void broadcast.removeDestination(changing.destination);
                setChanging(null);
              }}
            >
              Remove
            </button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

/** Used while the gateway's own list has not come: any RTMP server can be entered by hand. */
const BY_HAND: Platform = { name: "custom", title: "Custom RTMP", url: null, servers: [], key_page: null };

function AddDestination({ broadcast, onClose }: { broadcast: Broadcast; onClose(): void }): JSX.Element {
  const platforms = broadcast.platforms.value.length > 0 ? broadcast.platforms.value : [BY_HAND];
  const [platform, setPlatform] = useState<Platform>(platforms[0] ?? BY_HAND);
  const [name, setName] = useState("");
  const [url, setUrl] = useState(platform.url ?? "");
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<ReadonlyMap<string, string>>(new Map());

  const choose = (next: Platform): void => {
    // What the person typed stays; what a preset filled in goes with it.
    if (url === "" || platform.servers.some((server) => server.url === url)) setUrl(next.url ?? "");
    setPlatform(next);
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setErrors(new Map());
    try {
      await broadcast.addDestination({ name: name.trim() || platform.title, platform: platform.name, url: url.trim(), key });
      onClose();
    } catch (error) {
      if (error instanceof Problem) setErrors(error.byField());
      report("add the destination", error);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title="Add a destination" onClose={onClose} testid="destination-dialog">
      <form onSubmit={(event) => void submit(event)}>
        <fieldset class="platforms">
          <legend>Platform</legend>
          {platforms.map((each) => (
            <label key={each.name} class="chip">
              <input
                type="radio"
                name="platform"
                value={each.name}
                checked={each.name === platform.name}
                onChange={() => choose(each)}
              />
              <span>{each.title}</span>
            </label>
          ))}
        </fieldset>
        <FieldError text={errors.get("platform")} />
        <TextField
          label="Name"
          testid="destination-name"
          value={name}
          onValue={setName}
          placeholder={platform.title}
          error={errors.get("name")}
          maxLength={64}
        />
        {platform.servers.length > 1 && (
          <Select
            label="Server"
            testid="destination-server"
            choices={platform.servers.map((server) => ({ id: server.url, label: server.label }))}
            chosen={url}
            onChoose={setUrl}
          />
        )}
        <TextField
          label="Server URL"
          testid="destination-url"
          value={url}
          onValue={setUrl}
          placeholder="rtmps://server/app"
          error={errors.get("url")}
          help="Without the stream key."
          required
        />
        <TextField
          label="Stream key"
          testid="destination-key"
          type="password"
          value={key}
          onValue={setKey}
          error={errors.get("key")}
          help="Kept sealed by the gateway and never shown again."
          required
        />
        {platform.key_page !== null && (
          <p class="field-help">
            Find it on{" "}
            <a href={platform.key_page} target="_blank" rel="noopener noreferrer">
              {platform.title}'s page<span class="sr-only"> (opens a new tab)</span>
            </a>
            .
          </p>
        )}
        <div class="row end">
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            class="button primary"
            type="submit"
            data-testid="destination-save"
            disabled={busy || url.trim() === "" || key === ""}
          >
            {busy ? "Adding…" : "Add destination"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function NewKey(props: { broadcast: Broadcast; destination: Destination; onClose(): void }): JSX.Element {
  const [key, setKey] = useState("");
  const [errors, setErrors] = useState<ReadonlyMap<string, string>>(new Map());
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      await props.broadcast.replaceKey(props.destination, key);
      props.onClose();
    } catch (error) {
      if (error instanceof Problem) setErrors(error.byField());
      report("replace the key", error);
    }
  };
  return (
    <Dialog title={`New key for ${props.destination.name}`} onClose={props.onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <TextField
          label="Stream key"
          testid="new-key"
          type="password"
          value={key}
          onValue={setKey}
          error={errors.get("key")}
          help="Takes the place of the old one, which nobody can read."
          required
        />
        <div class="row end">
          <button class="button" type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button class="button primary" type="submit" disabled={key === ""}>
            Replace the key
          </button>
        </div>
      </form>
    </Dialog>
  );
}
