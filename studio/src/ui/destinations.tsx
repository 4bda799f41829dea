/** Choosing where the programme goes, and adding places to send it to. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Problem } from "../api/problem";
import type { Destination, Platform } from "../api/types";
import type { Broadcast } from "../state/broadcast";
import { report } from "../state/toasts";
import { Dialog } from "./dialog";
import { FieldError, Select, TextField } from "./fields";
import { Key, Plus, Star, Trash } from "./icons";

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
                  {destination.primary && " · primary"}
                </span>
              </span>
            </label>
            {destination.may_change ? (
              <>
                <button
                  class="button icon-only ghost primary-mark"
                  type="button"
                  data-testid="destination-primary"
                  aria-pressed={destination.primary}
                  aria-label={`${destination.name} is primary`}
                  title="The bitrate follows what a primary destination takes, from the next broadcast on."
                  onClick={() => void broadcast.setPrimary(destination, !destination.primary)}
                >
                  <Star />
                </button>
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
              </>
            ) : (
              <span class="quiet" title="Every room of the account may send there; its owner keeps the key.">
                Account
              </span>
            )}
          </li>
        ))}
      </ul>
      {destinations?.some((destination) => destination.may_change) && (
        <p class="quiet star-note">
          <Star /> The bitrate follows what primary destinations take.
        </p>
      )}
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
  const [backup, setBackup] = useState("");

  const choose = (next: Platform): void => {
    // What the person typed stays; what a preset filled in goes with it.
    if (url === "" || platform.servers.some((server) => server.url === url)) setUrl(next.url ?? "");
    setPlatform(next);
  };
  const save = (key: string): Promise<void> =>
    broadcast.addDestination({
      name: name.trim() || platform.title,
      platform: platform.name,
      url: url.trim(),
      key,
      ...(backup.trim() === "" ? {} : { backup_url: backup.trim() }),
    });

  return (
    <KeyForm
      title="Add a destination"
      testid="destination"
      task="add the destination"
      action="Add destination"
      help="Kept sealed by the gateway and never shown again."
      ready={url.trim() !== ""}
      keyPage={platform}
      save={save}
      onClose={onClose}
    >
      {(errors) => (
        <>
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
            label="Backup server URL"
            testid="destination-backup"
            value={backup}
            onValue={setBackup}
            placeholder="none"
            error={errors.get("backup_url")}
            help="Takes over with the same key when the first is lost."
          />
        </>
      )}
    </KeyForm>
  );
}

function NewKey(props: { broadcast: Broadcast; destination: Destination; onClose(): void }): JSX.Element {
  return (
    <KeyForm
      title={`New key for ${props.destination.name}`}
      testid="new-key"
      task="replace the key"
      action="Replace the key"
      help="Takes the place of the old one, which nobody can read."
      save={(key) => props.broadcast.replaceKey(props.destination, key)}
      onClose={props.onClose}
    />
  );
}

/** A dialog that ends in a stream key, which goes to the gateway and nowhere else. */
function KeyForm(props: {
  title: string;
  testid: string;
  /** What is being done, as it stands in "Could not …". */
  task: string;
  action: string;
  help: string;
  ready?: boolean;
  keyPage?: Platform;
  save(key: string): Promise<void>;
  onClose(): void;
  children?(errors: ReadonlyMap<string, string>): JSX.Element;
}): JSX.Element {
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<ReadonlyMap<string, string>>(new Map());
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setErrors(new Map());
    try {
      await props.save(key);
      props.onClose();
    } catch (error) {
      if (error instanceof Problem) setErrors(error.byField());
      report(props.task, error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose} testid={`${props.testid}-dialog`}>
      <form onSubmit={(event) => void submit(event)}>
        {props.children?.(errors)}
        <TextField
          label="Stream key"
          testid={`${props.testid}-key`}
          type="password"
          value={key}
          onValue={setKey}
          error={errors.get("key")}
          help={props.help}
          required
        />
        {props.keyPage?.key_page && (
          <p class="field-help">
            Find it on{" "}
            <a href={props.keyPage.key_page} target="_blank" rel="noopener noreferrer">
              {props.keyPage.title}'s page<span class="sr-only"> (opens a new tab)</span>
            </a>
            .
          </p>
        )}
        <div class="row end">
          <button class="button" type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button
            class="button primary"
            type="submit"
            data-testid={`${props.testid}-save`}
            disabled={busy || key === "" || props.ready === false}
          >
            {busy ? "Saving…" : props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
