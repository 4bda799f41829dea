/** Form fields with their label, help and error joined for eyes and screen readers alike. */

import type { JSX } from "preact";
import { useId } from "preact/hooks";

import { Warning } from "./icons";

export function FieldError({ id, text }: { id?: string; text: string | undefined }): JSX.Element | null {
  if (text === undefined) return null;
  return (
    <p id={id} class="field-error" role="alert">
      <Warning /> {text}
    </p>
  );
}

export function TextField(props: {
  label: string;
  value: string;
  onValue(value: string): void;
  testid: string;
  error?: string | undefined;
  help?: string | undefined;
  placeholder?: string;
  type?: "text" | "password";
  required?: boolean;
  maxLength?: number;
}): JSX.Element {
  const id = useId();
  const described = props.error ? `${id}-error` : props.help ? `${id}-help` : undefined;
  const input = {
    id,
    "data-testid": props.testid,
    value: props.value,
    placeholder: props.placeholder,
    required: props.required,
    maxLength: props.maxLength,
    spellcheck: false,
    "aria-invalid": props.error !== undefined,
    "aria-describedby": described,
    onInput: (event: InputEvent & { currentTarget: HTMLInputElement }) => props.onValue(event.currentTarget.value),
  } as const;
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.type === "password" ? (
        // A stream key is no login: password managers must neither fill nor keep it.
        <input {...input} type="password" autoComplete="new-password" />
      ) : (
        <input {...input} type="text" autoComplete="off" />
      )}
      {props.error === undefined && props.help !== undefined && (
        <p id={`${id}-help`} class="field-help">
          {props.help}
        </p>
      )}
      <FieldError id={`${id}-error`} text={props.error} />
    </div>
  );
}

export function Select(props: {
  label: string;
  choices: readonly { id: string; label: string }[];
  chosen: string | null;
  onChoose(id: string): void;
  testid: string;
}): JSX.Element | null {
  const id = useId();
  if (props.choices.length === 0) return null;
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select
        id={id}
        data-testid={props.testid}
        value={props.chosen ?? props.choices[0]?.id ?? ""}
        onChange={(event) => props.onChoose(event.currentTarget.value)}
      >
        {/* A value that is none of the choices was written by hand. */}
        {props.chosen !== null && !props.choices.some((choice) => choice.id === props.chosen) && (
          <option value={props.chosen}>Other</option>
        )}
        {props.choices.map((choice) => (
          <option key={choice.id} value={choice.id}>
            {choice.label}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Something that is on or off, with what it does beside its name. */
export function Switch(props: { label: string; note?: string; testid: string; on: boolean; onTurn(on: boolean): void }): JSX.Element {
  return (
    <label class="switch">
      <input
        type="checkbox"
        role="switch"
        data-testid={props.testid}
        checked={props.on}
        onChange={(event) => props.onTurn(event.currentTarget.checked)}
      />
      <span class="switch-track" aria-hidden="true" />
      <span>
        {props.label} {props.note !== undefined && <span class="quiet">{props.note}</span>}
      </span>
    </label>
  );
}
