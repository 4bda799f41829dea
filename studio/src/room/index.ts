/** The client library of a Jamcast room. It knows nothing of the studio's pages and can be used without them. */

export { Room } from "./room";
export type { Phase, Quality, RoomOptions, RoomView } from "./room";
export type { Links, Participant, RemoteTrack } from "./visit";
export type { LinkState, Outgoing } from "./transports";
export type { MediaKind, RoomRole, TrackSource } from "./protocol";
