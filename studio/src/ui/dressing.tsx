/** What stands over and under the pictures of the broadcast, and how a picture is retouched. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { Look } from "../api/types";
import * as format from "../format";
import type { Broadcast } from "../state/broadcast";
import { shrunkBackdrop, shrunkLogo } from "../media/upload";
import { report } from "../state/toasts";
import { Select, Switch } from "./fields";

/** The most that one slider cuts off each side: a face is still a face. */
const MOST_CROP = 0.35;

export function Dressing({ broadcast }: { broadcast: Broadcast }): JSX.Element | null {
  const stream = broadcast.stream.value;
  const [chosen, choose] = useState<string | null>(null);
  const [title, setTitle] = useState(stream?.dressing.title ?? "");
  if (stream === null) return null;
  const { desk } = broadcast;
  const { captions, background, logo, backdrop } = desk.dressing(stream);
  const choices = stream.mix.musicians.map(({ participant, name }) => ({ id: participant, label: name }));
  const looks = stream.dressing.looks.map((told) => desk.look(told));
  const look = looks.find((each) => each.participant === chosen) ?? looks[0];
  const shown = stream.dressing.title ?? "";
  return (
    <details class="dressing" data-testid="dressing">
      <summary>Names, title and effects</summary>
      <Switch label="Names in the pictures" testid="captions" on={captions} onTurn={(captions) => desk.dress({ captions })} />
      <form
        class="title-line"
        onSubmit={(event) => {
          event.preventDefault();
          desk.dress({ title: title.trim() });
        }}
      >
        <div class="field">
          <label for="screen-title">Title on the screen</label>
          <input
            id="screen-title"
            type="text"
            autoComplete="off"
            maxLength={100}
            data-testid="screen-title"
            placeholder={stream.title}
            value={title}
            onInput={(event) => setTitle(event.currentTarget.value)}
          />
        </div>
        <button class="button small" type="submit" data-testid="screen-title-show" disabled={title.trim() === shown}>
          {title.trim() === "" && shown !== "" ? "Take away" : "Show"}
        </button>
      </form>
      <Upload name="Logo" testid="logo" there={logo} shrink={shrunkLogo} onPicture={(logo) => desk.dress({ logo })} />
      <Upload
        name="Picture behind everything"
        testid="backdrop"
        there={backdrop}
        shrink={shrunkBackdrop}
        onPicture={(backdrop) => desk.dress({ backdrop })}
      />
      <label class="backdrop">
        <span>Background colour</span>
        <input
          type="color"
          data-testid="background"
          value={background}
          onInput={(event) => desk.dress({ background: event.currentTarget.value })}
        />
      </label>
      {look !== undefined && (
        <>
          <Select label="Retouch the picture of" testid="look-of" choices={choices} chosen={look.participant} onChoose={choose} />
          <Retouch broadcast={broadcast} look={look} />
        </>
      )}
    </details>
  );
}

function Upload(props: {
  name: string;
  testid: string;
  there: boolean;
  shrink(file: Blob): Promise<string>;
  /** An empty one takes it away. */
  onPicture(picture: string): void;
}): JSX.Element {
  const { name, testid, there, shrink, onPicture } = props;
  return (
    <div class="backdrop">
      <span>{name}</span>
      {there && (
        <button class="button small" type="button" data-testid={`${testid}-remove`} onClick={() => onPicture("")}>
          Take away
        </button>
      )}
      <label class="button small">
        {there ? "Another…" : "Choose…"}
        <input
          class="sr-only"
          type="file"
          accept="image/*"
          data-testid={testid}
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (file === undefined) return;
            shrink(file).then(onPicture, (error: unknown) => report("use this picture", error));
          }}
        />
      </label>
    </div>
  );
}

function Retouch({ broadcast, look }: { broadcast: Broadcast; look: Look }): JSX.Element {
  const change = (change: Partial<Omit<Look, "participant">>): void => broadcast.desk.retouch(look.participant, change);
  const crop = Math.max(...look.crop);
  return (
    <div class="retouch">
      <div class="chips">
        <Chip word="Mirror" testid="mirror" on={look.mirror} onTurn={(mirror) => change({ mirror })} />
        <Chip word="Black and white" testid="monochrome" on={look.monochrome} onTurn={(monochrome) => change({ monochrome })} />
      </div>
      <Slider
        name="Brightness"
        testid="brightness"
        min={-0.5}
        max={0.5}
        value={look.brightness}
        words={`${format.signed(look.brightness * 100).replace(/\.\d$/, "")} %`}
        onValue={(brightness) => change({ brightness })}
      />
      <Slider
        name="Crop"
        testid="crop"
        min={0}
        max={MOST_CROP}
        value={crop}
        words={`${Math.round(crop * 100)} %`}
        onValue={(share) => change({ crop: [share, share, share, share] })}
      />
    </div>
  );
}

function Chip(props: { word: string; testid: string; on: boolean; onTurn(on: boolean): void }): JSX.Element {
  return (
    <label class="chip">
      <input
        type="checkbox"
        data-testid={props.testid}
        checked={props.on}
        onChange={(event) => props.onTurn(event.currentTarget.checked)}
      />
      <span>{props.word}</span>
    </label>
  );
}

function Slider(props: {
  name: string;
  testid: string;
  min: number;
  max: number;
  value: number;
  words: string;
  onValue(value: number): void;
}): JSX.Element {
  return (
    <label class="knob">
      <span>{props.name}</span>
      <input
        class="slide"
        type="range"
        min={props.min}
        max={props.max}
        step={0.01}
        data-testid={props.testid}
        value={props.value}
        aria-valuetext={props.words}
        onInput={(event) => props.onValue(event.currentTarget.valueAsNumber)}
        onDblClick={() => props.onValue(0)}
      />
      <output class="numbers">{props.words}</output>
    </label>
  );
}
