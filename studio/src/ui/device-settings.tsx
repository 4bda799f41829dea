/** Choosing microphone, camera and output; the same in the green room and in the room. */

import type { JSX } from "preact";

import type { Input, Inputs } from "../state/inputs";
import { Select } from "./fields";
import { Warning } from "./icons";
import { StereoMeter } from "./meter";

export function DeviceSettings({ inputs }: { inputs: Inputs }): JSX.Element {
  const choose = (input: Input, id: string): void => {
    input.off.value = input.device === "camera" ? false : input.off.value;
    void input.open(id);
  };
  return (
    <div class="device-settings">
      <Select
        label="Microphone"
        testid="microphone-select"
        choices={inputs.microphones.value}
        chosen={inputs.microphone.chosen.value}
        onChoose={(id) => choose(inputs.microphone, id)}
      />
      <StereoMeter track={inputs.microphone.track.value} />
      <Trouble input={inputs.microphone} />
      <Select
        label="Camera"
        testid="camera-select"
        choices={inputs.cameras.value}
        chosen={inputs.camera.chosen.value}
        onChoose={(id) => choose(inputs.camera, id)}
      />
      <Trouble input={inputs.camera} />
      <Select
        label="Hear the others on"
        testid="output-select"
        choices={inputs.outputs.value}
        chosen={inputs.output.value}
        onChoose={(id) => (inputs.output.value = id)}
      />
    </div>
  );
}

function Trouble({ input }: { input: Input }): JSX.Element | null {
  const trouble = input.trouble.value;
  if (trouble === null) return null;
  return (
    <div class="trouble" role="alert" data-testid={`${input.device}-trouble`}>
      <Warning />
      <p>{trouble.message}</p>
      <button class="button small" type="button" onClick={() => void input.open(null)}>
        Try again
      </button>
    </div>
  );
}
