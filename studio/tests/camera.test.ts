import { describe, expect, it } from "vitest";

import { CameraSetting } from "../src/state/camera";

const ALL = (): boolean => true;

function storage(kept: Map<string, string> = new Map()): Pick<Storage, "getItem" | "setItem"> {
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
}

describe("how the camera is sent", () => {
  it("is in sizes until its owner chooses layers, and remembered then", () => {
    const store = storage();
    const setting = new CameraSetting(store, ALL);
    expect(setting.form.value).toBe("sizes");
    expect(setting.choices.map((each) => each.id)).toEqual(["sizes", "layers", "layers-av1"]);
    setting.choose("layers");
    expect(new CameraSetting(store, ALL).form.value).toBe("layers");
    new CameraSetting(store, ALL).choose("anything");
    expect(new CameraSetting(store, ALL).form.value).toBe("sizes");
  });

  it("is in sizes in a browser that knows no such layers, whatever was chosen in another", () => {
    const store = storage(new Map([["jamcast.camera.form", "layers-av1"]]));
    const setting = new CameraSetting(store, (form) => form !== "layers-av1");
    expect(setting.form.value).toBe("sizes");
    expect(setting.choices.map((each) => each.id)).toEqual(["sizes", "layers"]);
    expect(new CameraSetting(store, (form) => form === "sizes").choices).toEqual([]);
  });
});
