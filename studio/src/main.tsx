/** Where the page begins. */

import "@preact/signals";
import { render } from "preact";

import { Studio } from "./state/studio";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/green-room.css";
import "./styles/room.css";
import "./styles/broadcast.css";
import "./styles/mixer.css";
import "./styles/delays.css";
import "./styles/canvas.css";
import { takeInvitation } from "./token";
import { App } from "./ui/app";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");

const invitation = takeInvitation();
render(<App studio={invitation === null ? null : new Studio(invitation)} />, root);

// Another invitation pasted into the same tab only changes the fragment; it deserves a fresh start.
window.addEventListener("hashchange", () => {
  if (window.location.hash.startsWith("#token=")) window.location.reload();
});
