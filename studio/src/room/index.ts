/** The client library of a Jamcast room. It knows nothing of the studio's pages and can be used without them. */

export { canSend } from "./pictures";
export { Room } from "./room";
export { Refused } from "./signalling";
export type { CameraForm } from "./pictures";
export type { Decisions, Phase, Quality, RoomOptions, RoomView } from "./room";
export type { Links, Participant, RemoteTrack, RoomState } from "./visit";
export type { LinkState, Outgoing } from "./transports";
export type { Grade, Level, MediaKind, ParticipantInfo, Path, RoomRole, TrackSource } from "./protocol";
