/** Our own small icons, drawn on a 24 pixel grid with one stroke width; always decoration, so the text beside them counts. */

import type { ComponentChildren, JSX } from "preact";

function icon(children: ComponentChildren): () => JSX.Element {
  return () => (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

export const Mic = icon(
  <>
    <rect x="9" y="3" width="6" height="11" rx="3" />
    <path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3" />
  </>,
);
export const MicOff = icon(
  <>
    <path d="M9 9.5V11a3 3 0 0 0 4.6 2.5M15 10.5V6a3 3 0 0 0-5.6-1.5M5.5 11.5a6.5 6.5 0 0 0 10.2 5.3M18.5 11.5a6.4 6.4 0 0 1-.5 2.4M12 18v3M4 4l16 16" />
  </>,
);
export const Camera = icon(
  <>
    <rect x="3" y="6.5" width="12" height="11" rx="2.5" />
    <path d="m15 11 6-3.5v9L15 13" />
  </>,
);
export const CameraOff = icon(<path d="M9.5 6.5h3A2.5 2.5 0 0 1 15 9v2l6-3.5v9l-3.5-2M15 15.2a2.5 2.5 0 0 1-2.5 2.3h-7A2.5 2.5 0 0 1 3 15V9a2.5 2.5 0 0 1 2-2.4M4 4l16 16" />);
export const Leave = icon(<path d="M14 4H7.5A2.5 2.5 0 0 0 5 6.5v11A2.5 2.5 0 0 0 7.5 20H14M10.5 12H20m-3.5-3.5L20 12l-3.5 3.5" />);
export const Invite = icon(
  <>
    <circle cx="9.5" cy="8" r="3.5" />
    <path d="M3 19.5a6.5 6.5 0 0 1 13 0M19 8v6M16 11h6" />
  </>,
);
export const Settings = icon(
  <>
    <path d="M4 7h9M18 7h2M4 17h2M11 17h9" />
    <circle cx="15.5" cy="7" r="2.3" />
    <circle cx="8.5" cy="17" r="2.3" />
  </>,
);
export const Antenna = icon(
  <>
    <circle cx="12" cy="12" r="2" />
    <path d="M8 16a5.6 5.6 0 0 1 0-8M16 8a5.6 5.6 0 0 1 0 8M5.2 18.8a9.6 9.6 0 0 1 0-13.6M18.8 5.2a9.6 9.6 0 0 1 0 13.6" />
  </>,
);
export const Speaker = icon(<path d="M4 9.5v5h3.5L12 18.5v-13L7.5 9.5ZM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a7.8 7.8 0 0 1 0 11" />);
export const SpeakerOff = icon(<path d="M4 9.5v5h3.5L12 18.5v-13L7.5 9.5ZM16 9.5l5 5M21 9.5l-5 5" />);
export const Headphones = icon(
  <>
    <path d="M4.5 15.5V12a7.5 7.5 0 0 1 15 0v3.5" />
    <rect x="3.5" y="14" width="4" height="6" rx="1.8" />
    <rect x="16.5" y="14" width="4" height="6" rx="1.8" />
  </>,
);
export const Screen = icon(
  <>
    <rect x="3" y="4.5" width="18" height="12" rx="2.5" />
    <path d="M9 20h6M12 13.5V8m-2.5 2.3L12 7.8l2.5 2.5" />
  </>,
);
export const Lock = icon(
  <>
    <rect x="5" y="10.5" width="14" height="10" rx="2.5" />
    <path d="M8 10.5V8a4 4 0 0 1 8 0v2.5" />
  </>,
);
export const Unlocked = icon(
  <>
    <rect x="5" y="10.5" width="14" height="10" rx="2.5" />
    <path d="M8 10.5V7.5a4 4 0 0 1 7.6-1.7" />
  </>,
);
export const More = icon(<path d="M6 12h.1M12 12h.1M18 12h.1" />);
export const Plus = icon(<path d="M12 5v14M5 12h14" />);
export const Close = icon(<path d="m6 6 12 12M18 6 6 18" />);
export const Download = icon(<path d="M12 4v11m-4-4 4 4 4-4M5 20h14" />);
export const Key = icon(
  <>
    <circle cx="8" cy="15" r="4" />
    <path d="m11 12 8.5-8.5M16 7l2.5 2.5" />
  </>,
);
export const Trash = icon(<path d="M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 11v5M13.5 11v5" />);
export const Star = icon(<path d="m12 4 2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8Z" />);
export const Copy = icon(
  <>
    <rect x="9" y="9" width="11" height="11" rx="2.5" />
    <path d="M15 9V6.5A2.5 2.5 0 0 0 12.5 4h-6A2.5 2.5 0 0 0 4 6.5v6A2.5 2.5 0 0 0 6.5 15H9" />
  </>,
);
export const Warning = icon(<path d="M12 4 2.8 19.5h18.4ZM12 10v4.5M12 17.2v.1" />);
export const Check = icon(<path d="m5 12.5 4.5 4.5L19 7.5" />);
export const Film = icon(
  <>
    <rect x="3.5" y="5" width="17" height="14" rx="2.5" />
    <path d="M8 5v14M16 5v14M3.5 9.7H8M3.5 14.3H8M16 9.7h4.5M16 14.3h4.5" />
  </>,
);

/** The mark: three strings sounding, and the light that says the world hears them. */
export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect class="mark-bar" x="5" y="13" width="3.6" height="6" rx="1.8" />
      <rect class="mark-bar" x="11" y="7" width="3.6" height="18" rx="1.8" />
      <rect class="mark-bar" x="17" y="10.5" width="3.6" height="11" rx="1.8" />
      <circle class="mark-light" cx="26" cy="16" r="3.2" />
    </svg>
  );
}
