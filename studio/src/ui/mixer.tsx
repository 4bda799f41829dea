/** The programme's mixing desk: a strip for every musician, the master, and how loud it all is. */

import { effect } from "@preact/signals";
import type { JSX, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { Meters, Musician } from "../api/types";
import * as format from "../format";
import { shareOfMeter } from "../media/level";
import type { Broadcast } from "../state/broadcast";
import { LeaderChoice, Standing } from "./alignment";
import { Switch } from "./fields";

/** The ends of a fader, dB; the lowest is silence. */
const LOWEST_DB = -60;
const HIGHEST_DB = 12;

/** Where the platforms bring music to, LUFS. */
const TARGET_LUFS = -14;

export function Mixer({ broadcast }: { broadcast: Broadcast }): JSX.Element | null {
  const stream = broadcast.stream.value;
  if (stream === null) return null;
  const { desk } = broadcast;
  const master = desk.master(stream);
  const musicians = stream.mix.musicians.map((told) => desk.musician(told));
  return (
    <section class="mixer" aria-label="Sound of the broadcast" data-testid="mixer">
      <div class="section-head">
        <h3>Sound</h3>
        <span class="quiet">what the audience hears</span>
      </div>
      <Loudness broadcast={broadcast} />
      <div class="strip master">
        <div class="strip-head">
          <span class="strip-name">Everything</span>
          <output class="strip-db numbers">{format.decibels(master.master_gain_db, LOWEST_DB)}</output>
        </div>
        <Fader
          label="Master volume"
          testid="master-gain"
          db={master.master_gain_db}
          onDb={(master_gain_db) => desk.turnMaster({ master_gain_db })}
        />
        <Switch
          label="Even loudness"
          note="to −14 LUFS"
          testid="normalise"
          on={master.normalise}
          onTurn={(normalise) => desk.turnMaster({ normalise })}
        />
      </div>
      {musicians.length > 1 && <LeaderChoice broadcast={broadcast} stream={stream} />}
      <ul class="strips">
        {musicians.map((musician) => (
          <Strip key={musician.participant} broadcast={broadcast} musician={musician} />
        ))}
        {musicians.length === 0 && <li class="quiet">Nobody sends sound or picture yet.</li>}
      </ul>
    </section>
  );
}

function Strip({ broadcast, musician }: { broadcast: Broadcast; musician: Musician }): JSX.Element {
  const [more, setMore] = useState(false);
  const { desk } = broadcast;
  const { participant, name } = musician;
  const meter = useMeter<HTMLLIElement>(broadcast, (meters) => {
    const level = meters.musicians.find((each) => each.participant === participant);
    return level ? { "--level": shareOfMeter(level.rms_dbfs), "--peak": shareOfMeter(level.peak_dbfs) } : QUIET;
  });
  const touched = musician.pan !== 0 || musician.delay_ms !== 0;
  return (
    <li ref={meter} class={musician.heard ? "strip" : "strip unheard"} data-testid="strip" data-heard={musician.heard}>
      <div class="strip-head">
        <span class="strip-name">{name}</span>
        <output class="strip-db numbers">{format.decibels(musician.gain_db, LOWEST_DB)}</output>
        <Key label={`Mute ${name} in the broadcast`} word="M" tone="mute" testid="mute" on={musician.muted} onTurn={(muted) => desk.turn(participant, { muted })} />
        <Key label={`Hear ${name} alone in the broadcast`} word="S" tone="solo" testid="solo" on={musician.solo} onTurn={(solo) => desk.turn(participant, { solo })} />
        <button
          class={touched ? "key more touched" : "key more"}
          type="button"
          aria-label={`Balance and delay of ${name}`}
          aria-expanded={more}
          data-testid="strip-more"
          onClick={() => setMore(!more)}
        >
          <span class="chevron" aria-hidden="true" />
        </button>
      </div>
      <Standing musician={musician} />
      <Fader
        label={`Volume of ${name} in the broadcast`}
        testid="gain"
        db={musician.gain_db}
        onDb={(gain_db) => desk.turn(participant, { gain_db })}
      />
      {more && (
        <div class="strip-more">
          <label class="knob">
            <span>Balance</span>
            <input
              class="slide"
              type="range"
              min={-1}
              max={1}
              step={0.05}
              data-testid="pan"
              value={musician.pan}
              aria-valuetext={balance(musician.pan)}
              onInput={(event) => desk.turn(participant, { pan: event.currentTarget.valueAsNumber })}
              onDblClick={() => desk.turn(participant, { pan: 0 })}
            />
            <output class="numbers">{balance(musician.pan)}</output>
          </label>
          <label class="knob">
            <span>Delay</span>
            <input
              class="slide"
              type="range"
              min={-200}
              max={2000}
              step={1}
              data-testid="delay"
              value={musician.delay_ms}
              aria-valuetext={`${format.signed(musician.delay_ms, 0)} ms`}
              onInput={(event) => desk.turn(participant, { delay_ms: event.currentTarget.valueAsNumber })}
              onDblClick={() => desk.turn(participant, { delay_ms: 0 })}
            />
            <output class="numbers">{format.signed(musician.delay_ms, 0)} ms</output>
          </label>
        </div>
      )}
    </li>
  );
}

function Key(props: {
  label: string;
  word: string;
  tone: "mute" | "solo";
  testid: string;
  on: boolean;
  onTurn(on: boolean): void;
}): JSX.Element {
  return (
    <button
      class={`key ${props.tone}`}
      type="button"
      aria-label={props.label}
      title={props.label}
      aria-pressed={props.on}
      data-testid={props.testid}
      onClick={() => props.onTurn(!props.on)}
    >
      {props.word}
    </button>
  );
}

/** A fader over its meter. It moves as a hand expects: most of its way for the range that is used, and the lowest end is silence. */
function Fader(props: { label: string; testid: string; db: number; onDb(db: number): void }): JSX.Element {
  return (
    <div class="fader">
      <span class="fader-meter" aria-hidden="true" />
      <input
        class="slide"
        type="range"
        min={0}
        max={1}
        step={0.005}
        data-testid={props.testid}
        aria-label={props.label}
        aria-valuetext={format.decibels(props.db, LOWEST_DB)}
        value={positionOf(props.db)}
        onInput={(event) => props.onDb(dbAt(event.currentTarget.valueAsNumber))}
        onDblClick={() => props.onDb(0)}
      />
    </div>
  );
}

/** Where on its way a fader stands, 0 to 1. A square root gives the lower 40 dB a quarter of it. */
export function positionOf(db: number): number {
  const share = (Math.min(HIGHEST_DB, Math.max(LOWEST_DB, db)) - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB);
  return share ** 2;
}

/** The other way round, in tenths; around 0 dB it clicks into place. */
export function dbAt(position: number): number {
  const db = LOWEST_DB + (HIGHEST_DB - LOWEST_DB) * Math.sqrt(Math.min(1, Math.max(0, position)));
  return Math.abs(db) < 0.35 ? 0 : Math.round(db * 10) / 10;
}

function balance(pan: number): string {
  if (Math.abs(pan) < 0.025) return "middle";
  return `${Math.round(Math.abs(pan) * 100)} % ${pan < 0 ? "left" : "right"}`;
}

const QUIET = { "--level": 0, "--peak": 0 };

/** Loudness as the eye reads it: a bar from -41 to -5 LUFS with the target marked, and the numbers of EBU R 128. */
function Loudness({ broadcast }: { broadcast: Broadcast }): JSX.Element {
  const bar = useMeter<HTMLDivElement>(broadcast, (meters) => ({
    "--level": shareOfLoudness(meters.momentary_lufs),
    "--peak": shareOfLoudness(meters.short_term_lufs),
  }));
  return (
    <div ref={bar} class="loudness" data-testid="loudness">
      <div class="loudness-bar" aria-hidden="true">
        <span class="loudness-target" style={{ "--at": shareOfLoudness(TARGET_LUFS) }} />
      </div>
      <dl class="loudness-numbers">
        <Number broadcast={broadcast} name="Now" unit="LUFS" testid="short-term" of={(meters) => meters.short_term_lufs} />
        <Number broadcast={broadcast} name="Overall" unit="LUFS" testid="integrated" of={(meters) => meters.integrated_lufs} />
        <Number broadcast={broadcast} name="True peak" unit="dBTP" testid="true-peak" of={(meters) => meters.true_peak_dbtp} hold />
        <Number broadcast={broadcast} name="Evened" unit="dB" testid="evened" of={(meters) => meters.normalisation_db} />
      </dl>
    </div>
  );
}

/** A number of the meters, written past rendering; `hold` keeps the highest of the last two seconds in sight. */
function Number(props: {
  broadcast: Broadcast;
  name: string;
  unit: string;
  testid: string;
  of(meters: Meters): number | null;
  hold?: boolean;
}): JSX.Element {
  const ref = useRef<HTMLElement>(null);
  const { broadcast, of, hold } = props;
  useEffect(() => {
    let held: { value: number; at: number } | null = null;
    return effect(() => {
      const meters = broadcast.meters.value;
      let value = meters === null ? null : of(meters);
      if (hold === true) {
        const now = performance.now();
        if (value !== null && (held === null || value >= held.value || now - held.at > 2000)) held = { value, at: now };
        if (held !== null && now - held.at <= 2000) value = held.value;
      }
      if (ref.current !== null) ref.current.textContent = value === null ? "–" : format.signed(value);
    });
  }, [broadcast]);
  return (
    <div class="figure">
      <dt>
        {props.name} <span class="unit">{props.unit}</span>
      </dt>
      <dd ref={ref} class="numbers" data-testid={props.testid} />
    </div>
  );
}

function shareOfLoudness(lufs: number | null): number {
  return lufs === null ? 0 : Math.min(1, Math.max(0, (lufs + 41) / 36));
}

/** Keeps CSS variables of an element true to the meters without rendering anything. */
function useMeter<E extends HTMLElement>(
  broadcast: Broadcast,
  read: (meters: Meters) => Record<string, number>,
): RefObject<E | null> {
  const ref = useRef<E>(null);
  useEffect(
    () =>
      effect(() => {
        const meters = broadcast.meters.value;
        const element = ref.current;
        if (meters === null || element === null) return;
        for (const [name, value] of Object.entries(read(meters))) element.style.setProperty(name, value.toFixed(3));
      }),
    [broadcast],
  );
  return ref;
}
