/** How the pictures of the broadcast are arranged: small drawings to choose from, and whom to show. */

import type { JSX } from "preact";

import type { Corner, Layout, LayoutChange, LayoutKind, Picture } from "../api/types";
import type { Broadcast } from "../state/broadcast";
import { Dressing } from "./dressing";
import { Select } from "./fields";

const NAMES: Record<Exclude<LayoutKind, "custom">, { name: string; help: string }> = {
  grid: { name: "Grid", help: "Everybody alike" },
  speaker: { name: "Loudest", help: "The loudest large, the others beside" },
  spotlight: { name: "One", help: "One alone" },
  picture_in_picture: { name: "Inset", help: "One large, another in its corner" },
  canvas: { name: "Canvas", help: "The canvas alone" },
  canvas_and_tiles: { name: "Beside", help: "The canvas large, everybody small beside it" },
};

const OF_A_CANVAS: LayoutKind[] = ["canvas", "canvas_and_tiles"];

const CORNERS: { id: Corner; label: string }[] = [
  { id: "bottom_right", label: "Bottom right" },
  { id: "bottom_left", label: "Bottom left" },
  { id: "top_right", label: "Top right" },
  { id: "top_left", label: "Top left" },
];

const AUTOMATIC = "auto";

export function LayoutPicker({ broadcast }: { broadcast: Broadcast }): JSX.Element | null {
  const stream = broadcast.stream.value;
  if (stream === null) return null;
  const layout = broadcast.desk.layout(stream);
  const { pictures } = layout;
  const arrange = (change: Partial<LayoutChange>): void => {
    const { kind, large, small, corner, tiles } = layout;
    broadcast.desk.arrange({ kind, large, small, corner, tiles, ...change });
  };
  const choices = [
    { id: AUTOMATIC, label: "Whoever matters most" },
    ...pictures.map((picture) => ({ id: keyOf(picture), label: picture.name })),
  ];
  const find = (key: string): Picture | null => {
    const found = pictures.find((picture) => keyOf(picture) === key);
    return found ? { participant: found.participant, screen: found.screen } : null;
  };
  const kinds = (Object.keys(NAMES) as (keyof typeof NAMES)[]).filter(
    (kind) => layout.canvas !== null || kind === layout.kind || !OF_A_CANVAS.includes(kind),
  );
  return (
    <section class="layouts" aria-label="Picture of the broadcast" data-testid="layouts">
      <div class="section-head">
        <h3>Picture</h3>
        <span class="quiet">what the audience sees</span>
      </div>
      <Preview layout={stream.layout} width={stream.programme.width} height={stream.programme.height} />
      <div class="layout-choices" role="radiogroup" aria-label="Layout">
        {kinds.map((kind) => (
          <button
            key={kind}
            class="layout-choice"
            type="button"
            role="radio"
            aria-checked={layout.kind === kind}
            title={NAMES[kind].help}
            data-testid={`layout-${kind}`}
            onClick={() => arrange({ kind })}
          >
            <Sketch kind={kind} />
            {NAMES[kind].name}
          </button>
        ))}
      </div>
      {layout.kind === "custom" && <p class="quiet">Arranged by hand over the API. Any layout above replaces it.</p>}
      {(layout.kind === "spotlight" || layout.kind === "picture_in_picture") && (
        <Select
          label="Large"
          testid="layout-large"
          choices={choices}
          chosen={layout.large === null ? AUTOMATIC : keyOf(layout.large)}
          onChoose={(key) => arrange({ large: find(key) })}
        />
      )}
      {layout.kind === "picture_in_picture" && (
        <div class="layout-inset">
          <Select
            label="Small"
            testid="layout-small"
            choices={choices}
            chosen={layout.small === null ? AUTOMATIC : keyOf(layout.small)}
            onChoose={(key) => arrange({ small: find(key) })}
          />
          <Select
            label="Corner"
            testid="layout-corner"
            choices={CORNERS}
            chosen={layout.corner}
            onChoose={(corner) => arrange({ corner: corner as Corner })}
          />
        </div>
      )}
      <Dressing broadcast={broadcast} />
    </section>
  );
}

function keyOf({ participant, screen }: Picture): string {
  return `${participant}${screen ? " screen" : ""}`;
}

/** Where everybody stands now. */
function Preview(props: { layout: Layout; width: number; height: number }): JSX.Element {
  const { layout, width, height } = props;
  const canvas = layout.canvas === null ? [] : [{ participant: "canvas", screen: true, name: "Canvas", rect: layout.canvas.rect }];
  const shown = [...layout.pictures, ...canvas].filter((picture) => picture.rect !== null);
  return (
    <svg class="layout-preview" viewBox={`0 0 ${width} ${height}`} role="img" data-testid="layout-preview" aria-label={shown.length === 0 ? "Nobody is seen" : `Seen: ${shown.map((each) => each.name).join(", ")}`}>
      {shown.map(({ participant, screen, name, rect }) => {
        if (rect === null) return null;
        const size = Math.min(rect.height * 0.3, rect.width * 0.16, height * 0.075);
        return (
          <g key={`${participant}${String(screen)}`}>
            <rect class="seat" x={rect.x + 4} y={rect.y + 4} width={Math.max(0, rect.width - 8)} height={Math.max(0, rect.height - 8)} rx={height / 60} />
            <text x={rect.x + rect.width / 2} y={rect.y + rect.height / 2} font-size={size} text-anchor="middle" dominant-baseline="central">
              {shortened(name, rect.width / size)}
            </text>
          </g>
        );
      })}
    </svg>
  );
}

function shortened(name: string, ems: number): string {
  const fits = Math.max(1, Math.floor(ems * 1.6) - 1);
  const letters = [...name];
  return letters.length <= fits ? name : `${letters.slice(0, fits - 1).join("")}…`;
}

const SKETCHES: Record<keyof typeof NAMES, [number, number, number, number][]> = {
  grid: [[1, 1, 14, 8], [17, 1, 14, 8], [1, 10, 14, 8], [17, 10, 14, 8]],
  speaker: [[1, 1, 22, 17], [24.5, 1, 6.5, 5], [24.5, 7, 6.5, 5], [24.5, 13, 6.5, 5]],
  spotlight: [[1, 1, 30, 17]],
  picture_in_picture: [[1, 1, 30, 17], [20, 11, 9.5, 5.5]],
  canvas: [[1, 1, 30, 17]],
  canvas_and_tiles: [[1, 1, 22, 17], [24.5, 1, 6.5, 5], [24.5, 7, 6.5, 5], [24.5, 13, 6.5, 5]],
};

function Sketch({ kind }: { kind: keyof typeof NAMES }): JSX.Element {
  return (
    <svg class="sketch" viewBox="0 0 32 19" aria-hidden="true" focusable="false">
      {SKETCHES[kind].map(([x, y, width, height], index) => (
        <rect key={index} class={index > 0 && kind === "picture_in_picture" ? "over" : ""} x={x} y={y} width={width} height={height} rx="1.2" />
      ))}
    </svg>
  );
}
